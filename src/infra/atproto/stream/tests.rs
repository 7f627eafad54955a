use std::{
    collections::VecDeque,
    iter::{once, repeat_with},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ipld_core::{ipld, ipld::Ipld};
use proptest::prelude::*;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use super::*;

/// Long enough for anything to happen that is going to.
const PATIENCE: Duration = Duration::from_secs(20);
const EVENT: &str = "community.lexicon.calendar.event";

/// What a server does with a connection, one act after the other; at the end it stays and answers pings.
enum Act {
    Say(Message),
    /// Waits for so many pings.
    Pings(usize),
    /// Waits for a text and reports it.
    Listen,
    /// Neither reads nor writes any more.
    Freeze,
    Close,
    /// Answers the handshake with this status instead.
    Refuse(u16),
}

/// What a server saw of a connection.
#[derive(Debug)]
enum Saw {
    Request { uri: String, agent: String },
    Text(String),
}

/// A loopback server whose connections follow the scripts, one each; its host and what it sees.
async fn serve(scripts: impl IntoIterator<Item = Vec<Act>>) -> (String, mpsc::UnboundedReceiver<Saw>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (saw, seen) = mpsc::unbounded_channel();
    let mut scripts: VecDeque<Vec<Act>> = scripts.into_iter().collect();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = scripts.pop_front().unwrap_or_default();
            tokio::spawn(converse(stream, script, saw.clone()));
        }
    });
    (host, seen)
}

async fn converse(stream: tokio::net::TcpStream, script: Vec<Act>, saw: mpsc::UnboundedSender<Saw>) {
    let refuse = script.iter().find_map(|act| if let Act::Refuse(status) = act { Some(*status) } else { None });
    #[expect(clippy::result_large_err, reason = "the library wants its answer like this")]
    let greet = |request: &Request, response: Response| {
        let agent = request.headers().get("user-agent").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let _ = saw.send(Saw::Request { uri: request.uri().to_string(), agent });
        match refuse {
            None => Ok(response),
            Some(status) => {
                let mut answer = ErrorResponse::new(None);
                *answer.status_mut() = status.try_into().unwrap();
                Err(answer)
            }
        }
    };
    let Ok(mut socket) = accept_hdr_async(stream, greet).await else { return };
    for act in script {
        match act {
            Act::Say(message) => socket.send(message).await.unwrap(),
            Act::Pings(mut missing) => {
                while missing > 0 {
                    missing -= usize::from(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
                }
            }
            Act::Listen => {
                if let Some(Ok(Message::Text(text))) = socket.next().await {
                    let _ = saw.send(Saw::Text(text.to_string()));
                }
            }
            Act::Freeze => std::future::pending().await,
            Act::Close => return socket.close(None).await.unwrap(),
            Act::Refuse(_) => return,
        }
    }
    while let Some(Ok(_)) = socket.next().await {}
}

/// A host where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A running [`follow`].
struct Run {
    items: mpsc::Receiver<Item>,
    stop: CancellationToken,
    done: JoinHandle<Result<()>>,
}

impl Run {
    fn with(starts: Vec<Start>, wanted: Wanted, settings: StreamSettings) -> Self {
        let (out, items) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let done = tokio::spawn(follow(starts, wanted, settings, out, stop.clone()));
        Self { items, stop, done }
    }

    fn new(starts: Vec<Start>) -> Self {
        Self::with(starts, Wanted::new([EVENT]), brisk())
    }

    /// The next item that is not a connection.
    async fn next(&mut self) -> Item {
        loop {
            let item = tokio::time::timeout(PATIENCE, self.items.recv()).await.unwrap().unwrap();
            if !matches!(item, Item::Connected { .. }) {
                return item;
            }
        }
    }

    async fn frame(&mut self) -> (usize, i64) {
        match self.next().await {
            Item::Frame(frame) => (frame.endpoint, frame.cursor),
            other => unreachable!("not a frame: {other:?}"),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.done).await.unwrap().unwrap().unwrap();
    }
}

fn brisk() -> StreamSettings {
    let backoff = Duration::from_millis(1);
    StreamSettings { backoff_min: backoff, backoff_max: backoff, ..StreamSettings::default() }
}

fn start(dialect: &str, host: &str, cursor: Option<i64>) -> Start {
    Start { endpoint: format!("{dialect}+ws://{host}").parse().unwrap(), cursor }
}

async fn uri(seen: &mut mpsc::UnboundedReceiver<Saw>) -> String {
    match tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap().unwrap() {
        Saw::Request { uri, .. } => uri,
        Saw::Text(text) => unreachable!("not a request: {text}"),
    }
}

/// A message of a Jetstream.
fn account(time_us: i64) -> Act {
    Act::Say(Message::text(format!(r#"{{"did":"did:plc:a","time_us":{time_us},"kind":"account"}}"#)))
}

fn bytes(head: &Ipld, body: &Ipld) -> Act {
    let mut bytes = serde_ipld_dagcbor::to_vec(head).unwrap();
    bytes.extend(serde_ipld_dagcbor::to_vec(body).unwrap());
    Act::Say(Message::binary(bytes))
}

/// A message of a firehose.
fn identity(seq: i64) -> Act {
    bytes(
        &ipld!({ "op": 1, "t": "#identity" }),
        &ipld!({ "seq": seq, "did": "did:plc:a", "time": "2026-08-01T12:00:00Z" }),
    )
}

#[tokio::test]
async fn a_jetstream_resumes_a_little_before_the_last_message() {
    let (host, mut seen) = serve([
        vec![account(1_725_911_162_000_000), account(1_725_911_163_000_000), Act::Close],
        vec![account(1_725_911_163_000_001)],
    ])
    .await;
    let mut run = Run::new(vec![start("jetstream", &host, None)]);
    assert_eq!(run.frame().await, (0, 1_725_911_162_000_000));
    assert_eq!(run.frame().await, (0, 1_725_911_163_000_000));
    assert_eq!(run.frame().await, (0, 1_725_911_163_000_001));
    assert_eq!(uri(&mut seen).await, format!("/subscribe?wantedCollections={EVENT}"));
    assert_eq!(uri(&mut seen).await, format!("/subscribe?cursor=1725911162000000&wantedCollections={EVENT}"));
    run.stop().await;
}

#[tokio::test]
async fn a_firehose_resumes_after_the_last_number() {
    let (host, mut seen) = serve([vec![identity(7), Act::Close], vec![identity(8)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, Some(6))]);
    assert_eq!((run.frame().await, run.frame().await), ((0, 7), (0, 8)));
    assert_eq!(uri(&mut seen).await, "/xrpc/com.atproto.sync.subscribeRepos?cursor=6");
    assert_eq!(uri(&mut seen).await, "/xrpc/com.atproto.sync.subscribeRepos?cursor=7");
    run.stop().await;
}

#[tokio::test]
async fn the_next_jetstream_takes_over_with_the_cursor_of_the_first() {
    let (host, mut seen) = serve([vec![account(100_000_000)]]).await;
    let starts = vec![start("jetstream", &nobody().await, Some(100_000_000)), start("jetstream", &host, Some(3))];
    let mut run = Run::new(starts);
    assert_eq!(run.frame().await, (1, 100_000_000));
    assert_eq!(uri(&mut seen).await, format!("/subscribe?cursor=95000000&wantedCollections={EVENT}"));
    run.stop().await;
}

#[tokio::test]
async fn the_next_firehose_begins_with_a_gap() {
    let (host, mut seen) = serve([vec![identity(70)]]).await;
    let starts = vec![start("firehose", &nobody().await, Some(6)), start("firehose", &host, None)];
    let mut run = Run::new(starts);
    assert_eq!(run.next().await, Item::Gap { endpoint: 1 });
    assert_eq!(run.frame().await, (1, 70));
    assert_eq!(uri(&mut seen).await, "/xrpc/com.atproto.sync.subscribeRepos");
    run.stop().await;
}

#[tokio::test]
async fn a_server_that_only_talks_nonsense_gives_up_its_turn() {
    let refusal = || bytes(&ipld!({ "op": -1 }), &ipld!({ "error": "Broken" }));
    let (bad, _) = serve(repeat_with(move || vec![Act::Say(Message::text("?")), refusal(), Act::Close]).take(99)).await;
    let (good, _seen) = serve([vec![identity(70)]]).await;
    let mut run = Run::new(vec![start("firehose", &bad, None), start("firehose", &good, Some(69))]);
    // the bad one knows no cursor, and something was read before: each of its turns begins with a gap
    let item = loop {
        match run.next().await {
            Item::Gap { endpoint: 0 } => {}
            item => break item,
        }
    };
    assert!(matches!(item, Item::Frame(Frame { endpoint: 1, cursor: 70, .. })), "{item:?}");
    run.stop().await;
}

#[tokio::test]
async fn the_first_start_of_all_is_no_gap() {
    let (host, _seen) = serve([vec![identity(70)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, None)]);
    assert_eq!(run.frame().await, (0, 70));
    run.stop().await;
}

#[tokio::test]
async fn a_refused_cursor_is_forgotten() {
    let refusal = bytes(&ipld!({ "op": -1 }), &ipld!({ "error": "FutureCursor" }));
    let (host, mut seen) = serve([vec![refusal, Act::Close], vec![identity(2)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, Some(99))]);
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 });
    assert_eq!(run.frame().await, (0, 2));
    assert!(uri(&mut seen).await.ends_with("?cursor=99"));
    assert!(uri(&mut seen).await.ends_with("subscribeRepos"));
    run.stop().await;

    let (host, mut seen) = serve([vec![Act::Refuse(400)], vec![identity(2)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, Some(99))]);
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 });
    assert!(uri(&mut seen).await.ends_with("?cursor=99"));
    assert!(uri(&mut seen).await.ends_with("subscribeRepos"));
    run.stop().await;
}

#[tokio::test]
async fn a_server_in_trouble_keeps_its_cursor() {
    let (host, mut seen) = serve([vec![Act::Refuse(503)], vec![identity(100)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, Some(99))]);
    assert_eq!(run.frame().await, (0, 100));
    assert!(uri(&mut seen).await.ends_with("?cursor=99"));
    assert!(uri(&mut seen).await.ends_with("?cursor=99"));
    run.stop().await;
}

#[tokio::test]
async fn an_outdated_cursor_is_a_gap() {
    let info = bytes(&ipld!({ "op": 1, "t": "#info" }), &ipld!({ "name": "OutdatedCursor" }));
    let (host, _seen) = serve([vec![info, identity(50)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, Some(1))]);
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 });
    assert_eq!(run.frame().await, (0, 50));
    run.stop().await;
}

#[tokio::test]
async fn a_silently_clamped_cursor_is_a_gap() {
    let (host, _seen) = serve([vec![account(1_725_900_000_000_000)]]).await;
    let mut run = Run::new(vec![start("jetstream", &host, Some(1_725_800_000_000_000))]);
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 });
    assert_eq!(run.frame().await, (0, 1_725_900_000_000_000));
    run.stop().await;
}

#[tokio::test]
async fn a_frozen_server_is_given_up_and_resumed() {
    let first = vec![account(9_000_000), Act::Freeze];
    let (host, mut seen) = serve(once(first).chain(repeat_with(|| vec![account(9_000_001)]).take(99))).await;
    let settings = StreamSettings { stall_after: Duration::from_millis(100), ..brisk() };
    let mut run = Run::with(vec![start("jetstream", &host, None)], Wanted::new([EVENT]), settings);
    assert_eq!((run.frame().await, run.frame().await), ((0, 9_000_000), (0, 9_000_001)));
    uri(&mut seen).await;
    assert!(uri(&mut seen).await.starts_with("/subscribe?cursor=8000000&"));
    run.stop().await;
}

#[tokio::test]
async fn a_quiet_server_that_answers_pings_is_kept() {
    let (host, mut seen) = serve([vec![Act::Pings(2), identity(3)]]).await;
    let settings = StreamSettings { stall_after: Duration::from_secs(2), ..brisk() };
    let mut run = Run::with(vec![start("firehose", &host, None)], Wanted::new([EVENT]), settings);
    assert_eq!(run.frame().await, (0, 3));
    uri(&mut seen).await;
    assert!(seen.try_recv().is_err(), "one connection");
    run.stop().await;
}

#[tokio::test]
async fn a_server_that_only_answers_pings_is_given_up_in_the_end() {
    let (host, mut seen) = serve(once(vec![]).chain(repeat_with(|| vec![account(i64::MAX)]).take(99))).await;
    let settings = StreamSettings { quiet_after: Duration::from_millis(100), ..brisk() };
    let before = now_us();
    let mut run = Run::with(vec![start("jetstream", &host, None)], Wanted::new([EVENT]), settings);
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 }, "the far future was not asked for");
    assert_eq!(run.frame().await, (0, i64::MAX));
    uri(&mut seen).await;
    let again = Url::parse(&format!("ws://x{}", uri(&mut seen).await)).unwrap();
    let cursor: i64 = again.query_pairs().find(|(name, _)| name == "cursor").unwrap().1.parse().unwrap();
    assert!(cursor >= before - REWIND_SAME, "what came since the first connection is asked for");
    run.stop().await;
}

#[tokio::test]
async fn a_message_too_long_is_passed_over_with_a_gap() {
    let long = Act::Say(Message::text("x".repeat(2_000)));
    let (host, mut seen) = serve([vec![account(9), long], vec![account(12)]]).await;
    let settings = StreamSettings { max_frame_bytes: 1_000, ..brisk() };
    let mut run = Run::with(vec![start("jetstream", &host, None)], Wanted::new([EVENT]), settings);
    assert_eq!(run.frame().await, (0, 9));
    assert_eq!(run.next().await, Item::Gap { endpoint: 0 });
    assert_eq!(run.frame().await, (0, 12));
    uri(&mut seen).await;
    assert_eq!(uri(&mut seen).await, format!("/subscribe?wantedCollections={EVENT}"));
    run.stop().await;
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let garbage = || Act::Say(Message::binary(Bytes::from_static(b"\xff\x00")));
    let (host, _seen) = serve([vec![Act::Say(Message::text("{")), garbage(), account(5)]]).await;
    let mut run = Run::new(vec![start("jetstream", &host, None)]);
    assert_eq!(run.frame().await, (0, 5));
    run.stop().await;
    let (host, _seen) = serve([vec![Act::Say(Message::text("{")), garbage(), identity(5)]]).await;
    let mut run = Run::new(vec![start("firehose", &host, None)]);
    assert_eq!(run.frame().await, (0, 5));
    run.stop().await;
}

#[tokio::test]
async fn a_long_filter_is_sent_as_the_first_message() {
    let (host, mut seen) = serve([vec![Act::Listen, account(5)]]).await;
    let wanted = Wanted::new((0..80).map(|n| format!("{EVENT}.number{n}")));
    let mut run = Run::with(vec![start("jetstream", &host, Some(4_000_000))], wanted, brisk());
    assert_eq!(run.frame().await, (0, 5));
    let Some(Saw::Request { uri, agent }) = seen.recv().await else { unreachable!("a request comes first") };
    assert_eq!(uri, "/subscribe?cursor=3000000&requireHello=true");
    assert!(agent.starts_with("openmeet-gateway/"));
    let Some(Saw::Text(hello)) = seen.recv().await else { unreachable!("then the filter") };
    assert!(hello.contains(&format!("{EVENT}.number79")));
    run.stop().await;
}

#[tokio::test]
async fn the_cursor_moves_on_without_anything_wanted() {
    let other = r#"{"did":"d","time_us":9,"kind":"commit","commit":{"collection":"app.bsky.feed.post"}}"#;
    let (host, _seen) = serve([vec![Act::Say(Message::text(other))]]).await;
    let settings = StreamSettings { report_every: Duration::ZERO, ..brisk() };
    let mut run = Run::with(vec![start("jetstream", &host, None)], Wanted::new([EVENT]), settings);
    assert_eq!(run.next().await, Item::Passed { endpoint: 0, cursor: 9 });
    run.stop().await;
}

#[tokio::test]
async fn it_stops_while_nobody_takes_the_items_and_when_nobody_is_left() {
    let messages = || (1..100).map(account).collect::<Vec<_>>();
    let (host, mut seen) = serve([messages(), messages()]).await;
    let run = Run::new(vec![start("jetstream", &host, None)]);
    uri(&mut seen).await;
    run.stop().await;

    let Run { items, stop: _stop, done } = Run::new(vec![start("jetstream", &host, None)]);
    uri(&mut seen).await;
    drop(items);
    tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_list_that_cannot_be_followed_is_refused() {
    let (out, _items) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let none = follow(Vec::new(), Wanted::default(), brisk(), out.clone(), stop.clone()).await;
    assert_eq!(none.unwrap_err().reason(), "STREAM_INVALID");
    let many = Wanted::new((0..101).map(|n| format!("a.b.c{n}")));
    let many = follow(vec![start("jetstream", "127.0.0.1:1", None)], many, brisk(), out, stop).await;
    assert_eq!(many.unwrap_err().reason(), "TOO_MANY_COLLECTIONS");
}

#[test]
fn endpoints_are_read_and_named() {
    let name = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).map_err(|e| e.reason());
    assert_eq!(name("jetstream+wss://a.example").unwrap(), "jetstream+wss://a.example/subscribe");
    assert_eq!(name(" jetstream+ws://127.0.0.1:81/x ").unwrap(), "jetstream+ws://127.0.0.1:81/x");
    assert_eq!(
        name("firehose+wss://b.example/").unwrap(),
        "firehose+wss://b.example/xrpc/com.atproto.sync.subscribeRepos"
    );
    let keyed: Endpoint = "jetstream+wss://a.example/subscribe?key=s3&cursor=9&compress=true#x".parse().unwrap();
    assert_eq!(keyed.url.as_str(), "wss://a.example/subscribe?key=s3");
    assert_eq!(keyed.to_string(), "jetstream+wss://a.example/subscribe");
    assert_eq!(keyed.dialect(), Dialect::Jetstream);
    for wrong in [
        "",
        "wss://a.example",
        "jetstream+https://a.example",
        "jetstream+wss://",
        "tap+wss://a.example",
        "firehose+wss://u:p@a.example",
    ] {
        assert_eq!(name(wrong), Err("STREAM_INVALID"), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_wait_stays_below_its_bound(attempt in any::<u32>()) {
        let settings = StreamSettings::default();
        let bound = settings.backoff_min * 2_u32.saturating_pow(attempt.min(8));
        prop_assert!(backoff(&settings, attempt) <= bound.min(settings.backoff_max));
    }
}
