//! The change log as a subscriber has it, over server-sent events from a program that may be killed at any moment, and as it
//! is kept.

use entities::sets::ChangeOperation;
use gateway::domain::{
    change::{self, Cursor},
    tenant::Tenant,
};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::{
    io::{self, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor) {
    eventIngested(after: $after) { cursor uri operation event { id } }
}";
/// The position before everything: a subscription without a cursor begins with the present.
const NOUGHT: &str = "YzE6MA";

/// One delivery, or one row of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeenChange {
    pub(crate) cursor: Cursor,
    pub(crate) uri: String,
    pub(crate) operation: ChangeOperation,
}

/// A subscription of its own connection.
#[derive(Debug)]
pub(crate) struct Feed(BufReader<TcpStream>);

impl Feed {
    /// Asks for all that comes after a position, or for all there is.
    pub(crate) async fn open(address: &str, after: Option<Cursor>) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        let after = after.map_or_else(|| NOUGHT.to_owned(), |cursor| cursor.to_string());
        let body = json!({ "query": SUBSCRIPTION, "variables": { "after": after } }).to_string();
        // With HTTP/1.0 it is not cut into chunks.
        let head = format!(
            "POST /graphql HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n\
            Content-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(Self(BufReader::new(socket)))
    }

    /// The next delivery, what was said instead of one, or nothing when the server has gone away.
    pub(crate) async fn next(&mut self) -> Option<Result<SeenChange, String>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line.starts_with("HTTP/") && !line.contains(" 200 ") {
                return Some(Err(line));
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            // A server that is killed may leave half a line.
            let answer: Value = serde_json::from_str(data).ok()?;
            if !answer["errors"].is_null() {
                return Some(Err(answer["errors"].to_string()));
            }
            let change = &answer["data"]["eventIngested"];
            let operation = match change["operation"].as_str().unwrap() {
                "CREATED" => ChangeOperation::Created,
                "UPDATED" => ChangeOperation::Updated,
                _ => ChangeOperation::Deleted,
            };
            return Some(Ok(SeenChange {
                cursor: change["cursor"].as_str().unwrap().parse().unwrap(),
                uri: change["uri"].as_str().unwrap().to_owned(),
                operation,
            }));
        }
    }
}

/// The whole log of a tenant.
pub(crate) async fn logged(db: &impl ConnectionTrait, tenant: Tenant) -> Vec<SeenChange> {
    let mut after = None;
    let mut logged = Vec::new();
    loop {
        let page = change::page(db, tenant, after, &change::Filter::default(), 5_000).await.unwrap();
        logged.extend(page.changes.into_iter().map(|row| SeenChange {
            cursor: Cursor::of(&row),
            uri: row.event_uri.unwrap(),
            operation: row.operation,
        }));
        after = Some(page.end);
        if !page.has_more {
            break;
        }
    }
    assert!(logged.is_sorted_by(|a, b| a.cursor < b.cursor));
    logged
}
