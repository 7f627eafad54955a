//! How long it takes from a write on a PDS until a subscriber of the gateway has it, on the local network of
//! `tests/devnet`. Beside it: when the write is to be seen on the stream that the gateway follows.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Result, anyhow};
use fastrand::Rng;
use futures_util::StreamExt;
use gateway::infra::clock::Clock;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    rest::Running,
    support::{
        database,
        devnet::{Account, Devnet},
        graphql::GraphQl,
        process::Program,
        records,
    },
    table::{Table, part},
};

/// Writes that are measured, and those before them that are not: the first ones meet cold caches.
const WRITES: usize = 50;
const WARM_UP: usize = 5;

/// The end of the change log, which is where the subscription begins.
const END: &str = "{ eventChanges(first: 1) { endCursor } }";
/// What an agenda would ask for.
const CREATED: &str = "subscription ($did: Did!, $after: StreamCursor) {
    eventIngested(filter: { organizers: [{ did: $did }] }, after: $after) {
        cursor operation uri
        event { name startsAt organizer { did handle } attendance { confirmedCount maybeCount cancelledCount } }
    }
}";

/// Seconds from one write until something, for each write.
#[derive(Default)]
struct Delays {
    on_stream: Vec<f64>,
    answered: Vec<f64>,
    at_subscriber: Vec<f64>,
    behind_answer: Vec<f64>,
}

/// Writes events to a PDS, over a Jetstream and over the PDS's own firehose, and prints what it found.
pub(crate) async fn run() -> Result<()> {
    let devnet = Devnet::start().await;
    println!("\nFrom a write on a PDS to a subscriber of the gateway on SQLite: {WRITES} events, one after the other");
    let streams = [("Jetstream", devnet.network.jetstream()), ("the PDS's firehose", devnet.network.firehose("pds1"))];
    let mut memory = String::new();
    for (name, endpoint) in streams {
        let (delays, resident) = over(&devnet, &endpoint).await?;
        let mut table = Table::new([&format!("over {name}"), "median", "90 %", "aim"]);
        for (what, values, aim) in [
            ("request begun → on the stream itself", delays.on_stream, ""),
            ("request begun → answered by the PDS", delays.answered, ""),
            ("request begun → at the subscriber", delays.at_subscriber, "< 100 ms"),
            ("answered by the PDS → at the subscriber", delays.behind_answer, ""),
        ] {
            let shown = |which| format!("{:.1} ms", part(values.clone(), which) * 1e3);
            table.row([what.into(), shown(0.5), shown(0.9), aim.into()]);
        }
        table.print();
        memory = format!("{resident:.1} MB");
    }
    println!("\nMemory of the gateway afterwards, after 3 s at rest on the stream: {memory}");
    Ok(())
}

async fn over(devnet: &Devnet, endpoint: &str) -> Result<(Delays, f64)> {
    let test = database::sqlite().await;
    let mut program = Program::over(&test.url);
    for (name, value) in devnet.network.settings(endpoint) {
        program = program.with(name, &value);
    }
    let running = Running::start(&program).await?;
    let graphql = GraphQl::new(SocketAddr::from(([127, 0, 0, 1], running.port)));
    let author = devnet.account("writer", "pds1").await;
    let end = graphql.query(END, &json!({})).await;
    let after = end.pointer("/eventChanges/endCursor").ok_or_else(|| anyhow!("the log has no end: {end}"))?;
    let mut subscription = graphql.subscribe(CREATED, &json!({ "did": author.did, "after": after })).await;
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        loop {
            let told = subscription.next().await;
            let arrived = Instant::now();
            let field = |path| told.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            // Updates tell of handles that became known.
            if field("/eventIngested/operation") == "CREATED"
                && seen.send((field("/eventIngested/uri"), arrived)).is_err()
            {
                return;
            }
        }
    });
    let (watcher, mut messages) = watch(endpoint).await?;
    let mut delays = Delays::default();
    for number in 0..WARM_UP + WRITES {
        let record = record(number);
        let (begun, answered, uri) = write(&author, &record).await;
        let (come, arrived) = arrivals.recv().await.ok_or_else(|| anyhow!("the subscription has ended"))?;
        anyhow::ensure!(come == uri, "another event came: {come}");
        let key = uri.rsplit('/').next().unwrap_or_default();
        let streamed = loop {
            let (message, at) = messages.recv().await.ok_or_else(|| anyhow!("the stream has ended"))?;
            if message.windows(key.len()).any(|part| part == key.as_bytes()) {
                break at;
            }
        };
        if number >= WARM_UP {
            let since = |from: Instant, to: Instant| {
                to.checked_duration_since(from).map_or_else(|| -(from - to).as_secs_f64(), |delay| delay.as_secs_f64())
            };
            delays.on_stream.push(since(begun, streamed));
            delays.answered.push(since(begun, answered));
            delays.at_subscriber.push(since(begun, arrived));
            delays.behind_answer.push(since(answered, arrived));
        }
    }
    let memory = running.memory_at_rest().await?;
    reader.abort();
    watcher.abort();
    running.kill().await?;
    test.discard().await;
    Ok((delays, memory))
}

/// When the request began, when it was answered, and what was written.
async fn write(author: &Account, record: &Value) -> (Instant, Instant, String) {
    let begun = Instant::now();
    let written = author.create(record).await;
    (begun, Instant::now(), written.uri)
}

fn record(number: usize) -> Value {
    let mut rng = Rng::with_seed(number as u64);
    records::event(&mut rng, number, Clock::system().now().timestamp_micros())
}

/// Follows the stream beside the gateway; each message with the instant of its arrival.
async fn watch(endpoint: &str) -> Result<(JoinHandle<()>, mpsc::UnboundedReceiver<(Vec<u8>, Instant)>)> {
    let (_, address) = endpoint.split_once('+').ok_or_else(|| anyhow!("no address of a stream: {endpoint}"))?;
    let (mut socket, _) = connect_async(address).await?;
    let (seen, messages) = mpsc::unbounded_channel();
    let watcher = tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            let arrived = Instant::now();
            let (Message::Text(_) | Message::Binary(_)) = &message else { continue };
            if seen.send((message.into_data().to_vec(), arrived)).is_err() {
                return;
            }
        }
    });
    Ok((watcher, messages))
}
