//! A subscriber over HTTP, with a server that is killed under it: it comes back with the cursor of its last delivery.

use entities::sets::ChangeOperation;
use fastrand::Rng;
use gateway::domain::change::Cursor;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

use crate::support::process::{Program, kill};

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor) {
    eventIngested(after: $after) { cursor uri operation event { id } }
}";

/// All that was delivered.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) changes: Vec<SeenChange>,
    pub(super) restarts: usize,
}

#[derive(Debug)]
pub(super) struct SeenChange {
    pub(super) cursor: Cursor,
    pub(super) uri: String,
    pub(super) operation: ChangeOperation,
}

/// Follows the log from its beginning to the position that is told when nothing more is written.
pub(super) fn subscribe(program: Program, mut end: watch::Receiver<Option<Cursor>>) -> JoinHandle<Seen> {
    tokio::spawn(async move {
        let mut rng = Rng::with_seed(5);
        let mut seen = Seen::default();
        while end.borrow_and_update().is_none_or(|end| seen.changes.last().is_none_or(|last| last.cursor < end)) {
            let (child, address) = program.serve_api().await;
            let until = seen.changes.len() + rng.usize(200..3_500);
            // A subscription without a cursor begins with the present; the log began at nought.
            let after = seen.changes.last().map_or_else(|| "YzE6MA".to_owned(), |last| last.cursor.to_string());
            let mut stream = connect(&address, &after).await;
            while seen.changes.len() < until {
                let change = tokio::select! {
                    change = next(&mut stream) => change,
                    Ok(()) = end.changed() => break,
                };
                let Some(change) = change else { break };
                assert!(seen.changes.last().is_none_or(|last| last.cursor < change.cursor), "{change:?}");
                let is_last = *end.borrow() == Some(change.cursor);
                seen.changes.push(change);
                if is_last {
                    break;
                }
            }
            assert!(kill(child).await);
            seen.restarts += 1;
        }
        seen
    })
}

/// Opens a stream of server-sent events. With HTTP/1.0 it is not cut into chunks.
async fn connect(address: &str, after: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = json!({ "query": SUBSCRIPTION, "variables": { "after": after } }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n\
        Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    BufReader::new(socket)
}

/// The next delivery, if the server has not gone away.
async fn next(stream: &mut BufReader<TcpStream>) -> Option<SeenChange> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let Some(data) = line.strip_prefix("data: ") else {
            assert!(!line.starts_with("HTTP/") || line.contains(" 200 "), "{line}");
            continue;
        };
        let answer: Value = serde_json::from_str(data).unwrap();
        assert!(answer["errors"].is_null(), "{answer}");
        let change = &answer["data"]["eventIngested"];
        let operation = match change["operation"].as_str().unwrap() {
            "CREATED" => ChangeOperation::Created,
            "UPDATED" => ChangeOperation::Updated,
            _ => ChangeOperation::Deleted,
        };
        return Some(SeenChange {
            cursor: change["cursor"].as_str().unwrap().parse().unwrap(),
            uri: change["uri"].as_str().unwrap().to_owned(),
            operation,
        });
    }
}
