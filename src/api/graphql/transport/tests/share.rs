//! Subscriptions that share one execution, over real connections.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_graphql::{Context, Data, EmptyMutation, ErrorExtensions as _, InputObject, Object, Schema, Subscription};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    Alive, Life,
    http::{accepting, post},
    socket::{Socket, hear, listen, ready_with, say},
    until,
};
use crate::api::graphql::{
    guard::{Guard, Limits, Refusal},
    transport::{Attach, Audience, Course, Endpoint, RequestInfo, Resumable, Settings, Turn, router, share::RING},
};

const TICKS: &str =
    "subscription ($after: Int, $filter: TickFilter) { ticks(after: $after, filter: $filter) { number } }";
const LARGE: &str = "subscription ($after: Int) { ticks(after: $after) { number text } }";

/// A log of numbers from 1 on, and what was done for its readers.
#[derive(Clone)]
struct Log {
    length: watch::Sender<i64>,
    /// Events that were executed.
    executed: Arc<AtomicUsize>,
    alive: Alive,
}

impl Log {
    fn grow(&self, by: i64) {
        self.length.send_modify(|length| *length += by);
    }

    fn executed(&self) -> usize {
        self.executed.load(Ordering::SeqCst)
    }
}

struct Query;

#[Object]
impl Query {
    fn ok(&self) -> bool {
        true
    }
}

#[derive(InputObject)]
struct TickFilter {
    #[graphql(default)]
    least: i32,
    handle: Option<String>,
}

struct Tick(i64, Log);

#[Object]
impl Tick {
    fn number(&self) -> i64 {
        self.1.executed.fetch_add(1, Ordering::SeqCst);
        self.0
    }

    fn text(&self) -> String {
        "x".repeat(32 * 1024)
    }
}

struct Subscriptions(Log);

#[Subscription]
impl Subscriptions {
    async fn ticks(
        &self,
        context: &Context<'_>,
        after: Option<i64>,
        filter: Option<TickFilter>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<Tick>> + use<>> {
        let life = Life::begin(&self.0.alive).await;
        if filter.is_some_and(|filter| filter.least < 0) {
            return Err(async_graphql::Error::new("no").extend_with(|_, e| e.set("code", "BAD_USER_INPUT")));
        }
        let course = context.data_opt::<Course>();
        let plan = Course::plan(course, after);
        let (log, length) = (self.0.clone(), self.0.length.subscribe());
        let start = plan.after.unwrap_or_else(|| *length.borrow());
        let end = if plan.ends { *length.borrow() } else { i64::MAX };
        let items = stream::unfold((start + 1, length, life), move |(number, mut length, life)| async move {
            if number > end {
                return None;
            }
            length.wait_for(|length| *length >= number).await.ok()?;
            Some((Ok(number), (number + 1, length, life)))
        });
        let paced = Course::pace(course, context.data_opt::<Turn>(), plan, items, |number| *number);
        Ok(paced.map(move |number| number.map(|number| Tick(number, log.clone()))))
    }
}

/// Knows tenants and tokens by the payload of `connection_init`.
struct Doorkeeper;

fn said<'a>(info: &'a RequestInfo, name: &str) -> Option<&'a Value> {
    info.init.as_ref()?.get(name)
}

impl Attach for Doorkeeper {
    fn attach<'a>(&'a self, _: &'a RequestInfo) -> BoxFuture<'a, Result<Data, Refusal>> {
        ready(Ok(Data::default())).boxed()
    }

    fn audience(&self, info: &RequestInfo) -> Option<Audience> {
        said(info, "token").is_none().then(|| Audience(said(info, "tenant").and_then(Value::as_i64).unwrap_or(1)))
    }
}

type TestSchema = Schema<Query, EmptyMutation, Subscriptions>;

struct World {
    endpoint: Endpoint<TestSchema>,
    log: Log,
    address: SocketAddr,
}

impl World {
    async fn open(settings: Settings) -> Self {
        let log = Log { length: watch::channel(0).0, executed: Arc::default(), alive: Alive::default() };
        let schema = Schema::build(Query, EmptyMutation, Subscriptions(log.clone())).finish();
        let guard = Guard::new(&schema.sdl(), &[], Limits::default()).unwrap();
        let shared = &[Resumable { field: "ticks", after: "after", momentary: "handle" }];
        let settings = Settings { shared, connections: 16, ..settings };
        let ending = (CancellationToken::new(), TaskTracker::new());
        let endpoint = Endpoint::new(schema, guard, Doorkeeper, settings, ending);
        let address = listen(endpoint.clone()).await;
        Self { endpoint, log, address }
    }

    async fn ready(&self) -> Socket {
        ready_with(self.address, json!({})).await
    }

    /// A socket with one subscription.
    async fn subscribe(&self, id: &str, query: &str, variables: Value) -> Socket {
        let mut socket = self.ready().await;
        ask(&mut socket, id, query, variables).await;
        socket
    }

    async fn until_members(&self, expected: &[usize]) {
        let runs = &self.endpoint.inner.runs;
        until(&format!("{expected:?} members, not {:?}", runs.members()), || runs.members() == expected).await;
    }

    /// Nobody is served any more.
    async fn until_quiet(&self) {
        self.until_members(&[]).await;
        until("nothing is left", || self.log.alive.0.load(Ordering::SeqCst) == 0).await;
    }

    fn alive(&self) -> usize {
        self.log.alive.0.load(Ordering::SeqCst)
    }
}

fn ring() -> i64 {
    i64::try_from(RING).unwrap()
}

async fn ask(socket: &mut Socket, id: &str, query: &str, variables: Value) {
    let payload = json!({"query": query, "variables": variables});
    say(socket, json!({"id": id, "type": "subscribe", "payload": payload})).await;
}

/// The next ticks of a subscription are these, each once.
async fn hear_ticks(socket: &mut Socket, id: &str, numbers: impl Iterator<Item = i64>) {
    for number in numbers {
        let message = hear(socket).await;
        let heard = (&message["type"], &message["id"], &message["payload"]["data"]["ticks"]["number"]);
        assert_eq!(heard, (&json!("next"), &json!(id), &json!(number)));
    }
}

#[tokio::test]
async fn those_who_mean_the_same_share_one_execution() {
    let world = World::open(Settings::default()).await;
    let mut first = world.subscribe("a", TICKS, json!({})).await;
    let mut second = world.subscribe("b\"", TICKS, json!({"after": null})).await;
    ask(&mut second, "c", TICKS, json!({})).await;
    let body = json!({"query": TICKS}).to_string();
    let events = router(world.endpoint.clone(), |methods| methods);
    let events = events.oneshot(accepting(post(body), "text/event-stream")).await.unwrap();
    let mut events = events.into_body().into_data_stream();
    world.until_members(&[4]).await;
    until("it runs", || world.alive() == 1).await;

    // One by one, then fifty at once.
    for number in 1..=3 {
        world.log.grow(1);
        hear_ticks(&mut first, "a", std::iter::once(number)).await;
    }
    world.log.grow(50);
    hear_ticks(&mut first, "a", 4..=53).await;
    let mut next = [1, 1];
    for _ in 0..2 * 53 {
        let message = hear(&mut second).await;
        let which = usize::from(message["id"] == "c");
        assert_eq!(message["payload"]["data"]["ticks"]["number"], next[which], "{message}");
        next[which] += 1;
    }
    let mut text = String::new();
    while !text.contains(r#"{"number":53}"#) {
        text.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    let event = |number| format!("event: next\ndata: {{\"data\":{{\"ticks\":{{\"number\":{number}}}}}}}\n\n");
    let expected = (1..=53).map(event).collect::<Vec<_>>().concat();
    assert_eq!(text, expected);
    assert_eq!(world.log.executed(), 53, "each event was executed once");

    // Who leaves takes nobody along, and its name is free at once; the last one ends the run.
    say(&mut second, json!({"id": "c", "type": "complete"})).await;
    ask(&mut second, "c", LARGE, json!({})).await;
    drop(events);
    drop(first);
    world.until_members(&[1, 1]).await;
    world.log.grow(1);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let message = hear(&mut second).await;
        let tick = &message["payload"]["data"]["ticks"];
        heard.push((message["id"].to_string(), tick["number"].clone(), tick["text"].is_string()));
    }
    heard.sort_by_key(|(id, ..)| id.clone());
    assert_eq!(heard, [(r#""b\"""#.to_owned(), json!(54), false), (r#""c""#.to_owned(), json!(54), true)]);
    drop(second);
    world.until_quiet().await;
}

#[tokio::test]
async fn whoever_is_somebody_or_means_something_else_runs_alone() {
    let world = World::open(Settings::default()).await;
    let literal = "subscription { ticks(filter: { handle: \"a\" }) { number } }";
    let named = "subscription A { ticks { number } } subscription B { ticks { number } }";
    let mut sockets = Vec::new();
    for (payload, query, name, variables) in [
        (json!({}), TICKS, None, json!({})),
        (json!({}), TICKS, None, json!({"after": 0})),
        (json!({"tenant": 2}), TICKS, None, json!({})),
        (json!({}), TICKS, None, json!({"filter": {"least": 0}})),
        (json!({}), TICKS, None, json!({"filter": {"least": 1}})),
        (json!({}), "subscription { ticks { number } }", None, json!({})),
        (json!({}), named, Some("A"), json!({})),
        (json!({}), named, Some("B"), json!({})),
        // These are members of nothing.
        (json!({"token": "x"}), TICKS, None, json!({})),
        (json!({"token": "x"}), TICKS, None, json!({})),
        (json!({"token": "x", "tenant": 2}), TICKS, None, json!({"after": 0})),
        (json!({}), TICKS, None, json!({"filter": {"handle": "a"}})),
        (json!({}), literal, None, json!({})),
    ] {
        let mut socket = ready_with(world.address, payload).await;
        let payload = json!({"query": query, "operationName": name, "variables": variables});
        say(&mut socket, json!({"id": "1", "type": "subscribe", "payload": payload})).await;
        sockets.push(socket);
    }
    world.until_members(&[1, 1, 1, 1, 1, 1, 2]).await;
    until("they run", || world.alive() == 7 + 5).await;
    world.log.grow(1);
    for socket in &mut sockets {
        hear_ticks(socket, "1", std::iter::once(1)).await;
    }
    assert_eq!(world.log.executed(), 7 + 5);
    drop(sockets);
    world.until_quiet().await;
}

#[tokio::test]
async fn who_resumes_joins_without_a_gap_and_without_a_double() {
    const END: i64 = 400;
    let world = World::open(Settings::default()).await;
    world.log.grow(10);
    let mut early = world.subscribe("e", TICKS, json!({})).await;
    until("it runs", || world.alive() == 1).await;
    let reader = tokio::spawn(async move { hear_ticks(&mut early, "e", 11..=END).await });
    let log = world.log.clone();
    let writer = tokio::spawn(async move {
        let mut length = 10;
        while length < END - 1 {
            let by = fastrand::i64(1..=3).min(END - 1 - length);
            log.grow(by);
            length += by;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let resumed: Vec<_> = (0..40)
        .map(|_| {
            let address = world.address;
            async move {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..200))).await;
                let mut socket = ready_with(address, json!({})).await;
                let mut at = fastrand::i64(0..10);
                // Some come back a second time.
                for stop in [fastrand::i64(20..200), END - 1] {
                    ask(&mut socket, "r", TICKS, json!({"after": at})).await;
                    hear_ticks(&mut socket, "r", at + 1..=stop).await;
                    at = stop;
                    if stop < END - 1 {
                        drop(socket);
                        socket = ready_with(address, json!({})).await;
                    }
                }
                socket
            }
        })
        .map(tokio::spawn)
        .collect();
    writer.await.unwrap();
    let mut sockets = Vec::new();
    for socket in resumed {
        sockets.push(socket.await.unwrap());
    }
    world.until_members(&[41]).await;
    until("all are members", || world.alive() == 1).await;
    let before = world.log.executed();
    world.log.grow(1);
    for socket in &mut sockets {
        hear_ticks(socket, "r", std::iter::once(END)).await;
    }
    reader.await.unwrap();
    assert_eq!(world.log.executed(), before + 1, "the others have joined");
    drop(sockets);
    world.until_quiet().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_alone() {
    let settings = Settings { write_timeout: Duration::from_millis(500), ..Settings::default() };
    let world = World::open(settings).await;
    let silent = world.subscribe("s", LARGE, json!({})).await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(world.subscribe("1", LARGE, json!({})).await);
    }
    world.until_members(&[5]).await;
    until("it runs", || world.alive() == 1).await;
    let end = 4 * ring();
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| async move {
            hear_ticks(&mut socket, "1", 1..=end).await;
            socket
        })
        .map(tokio::spawn)
        .collect();
    world.log.grow(end);
    let mut sockets = Vec::new();
    for reader in readers {
        sockets.push(reader.await.unwrap());
    }
    world.until_members(&[4]).await;
    drop((silent, sockets));
    world.until_quiet().await;
}

#[tokio::test]
async fn who_falls_behind_catches_up() {
    let world = World::open(Settings::default()).await;
    let body = json!({"query": TICKS}).to_string();
    let events = router(world.endpoint.clone(), |methods| methods);
    let events = events.oneshot(accepting(post(body), "text/event-stream")).await.unwrap();
    let mut slow = world.subscribe("s", LARGE, json!({})).await;
    let mut quick = world.subscribe("q", TICKS, json!({})).await;
    let mut large = world.subscribe("l", LARGE, json!({})).await;
    world.until_members(&[2, 2]).await;
    until("both run", || world.alive() == 2).await;
    let end = 3 * ring();
    let done = Arc::new(AtomicI64::new(0));
    let readers = [("q", &mut quick), ("l", &mut large)].map(|(id, socket)| {
        let (log, done) = (world.log.clone(), Arc::clone(&done));
        async move {
            for number in 1..=end {
                if id == "q" {
                    log.grow(1);
                }
                hear_ticks(socket, id, std::iter::once(number)).await;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    });
    futures_util::future::join_all(readers).await;
    assert_eq!(done.load(Ordering::SeqCst), 2, "nobody waited for those who read nothing");
    // They were members of rings that have turned over since, and read all of it.
    hear_ticks(&mut slow, "s", 1..=end).await;
    let mut events = events.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains(&format!("{{\"number\":{end}}}")) {
        text.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    let numbers: Vec<i64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["ticks"]["number"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=end).collect::<Vec<_>>());
    // And are members again.
    world.log.grow(1);
    hear_ticks(&mut slow, "s", std::iter::once(end + 1)).await;
    drop((slow, quick, large, events));
    world.until_quiet().await;
}

#[tokio::test]
async fn what_cannot_begin_is_told_to_each() {
    let world = World::open(Settings::default()).await;
    for _ in 0..2 {
        let mut sockets = Vec::new();
        for variables in [json!({}), json!({}), json!({"after": 0})] {
            let mut variables = variables;
            variables["filter"] = json!({"least": -1});
            sockets.push(world.subscribe("1", TICKS, variables).await);
        }
        for socket in &mut sockets {
            let refused = hear(socket).await;
            assert!(refused.to_string().contains("BAD_USER_INPUT"), "{refused}");
            let last = if refused["type"] == "error" { refused } else { hear(socket).await };
            assert!(last["type"] == "complete" || last["type"] == "error", "{last}");
            // The id is free.
            ask(socket, "1", "{ ok }", json!({})).await;
            assert_eq!(hear(socket).await["payload"], json!({"data": {"ok": true}}));
        }
        world.until_quiet().await;
    }
}
