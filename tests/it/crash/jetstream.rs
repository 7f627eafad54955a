//! A Jetstream that has everything from the start: it sends what is not older than the cursor, and then keeps quiet.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};
use url::Url;

/// The server; it goes with the value.
pub(super) struct Jetstream {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Jetstream {
    /// How many there have been.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Jetstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves lines, which are in the order of their time.
pub(super) async fn serve(lines: Vec<String>) -> Jetstream {
    let timed = |line: String| (serde_json::from_str::<Value>(&line).unwrap()["time_us"].as_i64().unwrap(), line);
    let lines: Arc<Vec<(i64, String)>> = Arc::new(lines.into_iter().map(timed).collect());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let accepting = async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(send(socket, Arc::clone(&lines)));
        }
    };
    Jetstream { address, connections, task: tokio::spawn(accepting).abort_handle() }
}

/// Until the reader is gone, which is no failure here.
async fn send(socket: TcpStream, lines: Arc<Vec<(i64, String)>>) -> Option<()> {
    let mut cursor = None;
    #[expect(clippy::result_large_err, reason = "the callback's form is the library's")]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let url = Url::parse("ws://localhost").and_then(|base| base.join(&request.uri().to_string())).unwrap();
        cursor = url.query_pairs().find(|(name, _)| name == "cursor").and_then(|(_, value)| value.parse::<i64>().ok());
        Ok(response)
    };
    let mut socket = accept_hdr_async(socket, note).await.ok()?;
    let cursor = cursor?; // without one, nothing of what has been
    for (_, line) in lines.iter().filter(|(at, _)| *at >= cursor) {
        socket.feed(Message::text(line.clone())).await.ok()?;
    }
    socket.flush().await.ok()?;
    while let Some(Ok(_)) = socket.next().await {}
    Some(())
}
