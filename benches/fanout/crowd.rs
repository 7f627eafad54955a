//! Subscribers that do nothing but count what they hear: a WebSocket read by hand costs little beside what is measured.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

/// Handshakes at once.
const AT_ONCE: usize = 64;
/// Far more than any round takes.
const PATIENCE: Duration = Duration::from_mins(2);
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// What a client sets, since it masks.
const MASKED: u8 = 0x80;
/// The length follows in two bytes.
const TWO_BYTES: u8 = 0x7e;
/// An empty pong, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// Where a server is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    /// On this machine.
    pub(crate) port: u16,
    /// Of the WebSocket.
    pub(crate) path: &'a str,
    /// What is asked for with graphql-transport-ws, where that is spoken.
    pub(crate) subscription: Option<&'a str>,
    /// Of the browsers of as many subscribers; the others are nobody in particular.
    pub(crate) cookies: &'a [String],
}

/// Subscribers of one server.
pub(crate) struct Crowd {
    round: Arc<Round>,
    _readers: JoinSet<Result<()>>,
}

#[derive(Default)]
struct Round {
    heard: AtomicUsize,
    expected: AtomicUsize,
    first: Mutex<Option<Instant>>,
    last: Mutex<Option<Instant>>,
    sample: Mutex<Option<String>>,
    has_sample: AtomicBool,
    complete: Notify,
}

impl Round {
    fn hear(&self, frames: usize) {
        let before = self.heard.fetch_add(frames, Ordering::AcqRel);
        if before == 0 {
            set(&self.first, Instant::now());
        }
        if before + frames == self.expected.load(Ordering::Acquire) {
            set(&self.last, Instant::now());
            self.complete.notify_one();
        }
    }
}

fn set<T>(place: &Mutex<Option<T>>, value: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
}

fn get<T: Clone>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Crowd {
    /// Opens so many sockets.
    pub(crate) async fn gather(door: Door<'_>, count: usize) -> Result<Self> {
        let round = Arc::new(Round::default());
        let sockets = stream::iter(0..count).map(|number| open(door, number));
        let sockets: Vec<TcpStream> = sockets.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut readers = JoinSet::new();
        for socket in sockets {
            readers.spawn(read(socket, Arc::clone(&round)));
        }
        Ok(Self { round, _readers: readers })
    }

    /// Begins to count to so many frames.
    pub(crate) fn expect(&self, frames: usize) {
        self.round.expected.store(frames, Ordering::Release);
        self.round.heard.store(0, Ordering::Release);
    }

    /// When the first and the last of them came.
    pub(crate) async fn wait(&self) -> Result<(Instant, Instant)> {
        let complete = timeout(PATIENCE, self.round.complete.notified()).await;
        ensure!(complete.is_ok(), "{} frames came", self.round.heard.load(Ordering::Acquire));
        get(&self.round.first).zip(get(&self.round.last)).ok_or_else(|| anyhow!("nothing came"))
    }

    /// Waits until so many frames have come in all.
    pub(crate) async fn told(&self, frames: usize) -> Result<()> {
        let began = Instant::now();
        while self.round.heard.load(Ordering::Acquire) < frames {
            ensure!(began.elapsed() < PATIENCE, "{} frames came", self.round.heard.load(Ordering::Acquire));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The first frame that anybody heard.
    pub(crate) fn sample(&self) -> Option<String> {
        get(&self.round.sample)
    }
}

async fn open(door: Door<'_>, number: usize) -> Result<TcpStream> {
    let Door { port, path, subscription, cookies } = door;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let person = cookies.get(number).map(|cookie| format!("Origin: http://127.0.0.1:{port}\r\nCookie: {cookie}\r\n"));
    let person = person.unwrap_or_default();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: crowd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: graphql-transport-ws\r\n{person}\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await?);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    if let Some(query) = subscription {
        socket.write_all(&masked(&json!({ "type": "connection_init" }))).await?;
        let mut head = [0; 2];
        socket.read_exact(&mut head).await?;
        let mut acknowledged = vec![0; usize::from(head[1])];
        socket.read_exact(&mut acknowledged).await?;
        // Clients choose ids of their own.
        let id = format!("{number:08}-0000-4000-8000-000000000000");
        let subscribe = json!({ "type": "subscribe", "id": id, "payload": { "query": query } });
        socket.write_all(&masked(&subscribe)).await?;
    }
    Ok(socket)
}

/// A text message of a client, masked with zeros.
fn masked(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let mut frame = vec![TEXT];
    match u8::try_from(text.len()) {
        Ok(length) if length < TWO_BYTES => frame.push(MASKED | length),
        _ => {
            frame.push(MASKED | TWO_BYTES);
            frame.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.bytes());
    frame
}

async fn read(mut socket: TcpStream, round: Arc<Round>) -> Result<()> {
    let mut buffer = vec![0; 4096];
    let mut held = 0;
    loop {
        let count = socket.read(buffer.get_mut(held..).unwrap_or_default()).await?;
        ensure!(count > 0, "the server left");
        held += count;
        let (mut at, mut frames, mut pings) = (0, 0, 0);
        while let Some((kind, body, end)) = frame(buffer.get(at..held).unwrap_or_default()) {
            match kind {
                TEXT => {
                    frames += 1;
                    if !round.has_sample.swap(true, Ordering::Relaxed) {
                        let text = buffer.get(at + body..at + end).unwrap_or_default();
                        set(&round.sample, String::from_utf8(text.to_vec())?);
                    }
                }
                PING => pings += 1,
                _ => return Err(anyhow!("the server says something else: {kind}")),
            }
            at += end;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
        if held == buffer.len() {
            buffer.resize(2 * held, 0);
        }
        if frames > 0 {
            round.hear(frames);
        }
        for _ in 0..pings {
            socket.write_all(&PONG).await?;
        }
    }
}

/// First byte of the first frame, and where its payload begins and ends, if all of it is there.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (body, length) = match *bytes.get(1)? {
        TWO_BYTES => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => return None,
        length => (2, usize::from(length)),
    };
    (bytes.len() >= body + length).then(|| bytes.first().map(|kind| (*kind, body, body + length)))?
}
