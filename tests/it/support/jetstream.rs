//! A Jetstream that keeps everything it was told: it sends what is not older than the cursor, and then what it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
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
pub(crate) struct Jetstream {
    pub(crate) address: SocketAddr,
    kept: Kept,
    connections: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Lines with their times.
#[derive(Clone)]
struct Kept {
    lines: Arc<Mutex<Vec<(i64, String)>>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Jetstream {
    /// How many there have been.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Has it send these lines, which are later than all before and in the order of their time.
    pub(crate) fn tell(&self, lines: impl IntoIterator<Item = String>) {
        let timed = |line: String| (serde_json::from_str::<Value>(&line).unwrap()["time_us"].as_i64().unwrap(), line);
        let mut kept = self.kept.lines.lock().unwrap();
        kept.extend(lines.into_iter().map(timed));
        self.kept.count.send_replace(kept.len());
    }
}

impl Drop for Jetstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves lines, which are in the order of their time.
pub(crate) async fn serve(lines: Vec<String>) -> Jetstream {
    let kept = Kept { lines: Arc::default(), count: watch::Sender::new(0) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let (counted, served) = (Arc::clone(&connections), kept.clone());
    let accepting = async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(send(socket, served.clone()));
        }
    };
    let stream = Jetstream { address, kept, connections, task: tokio::spawn(accepting).abort_handle() };
    stream.tell(lines);
    stream
}

/// Until the reader is gone, which is no failure here.
async fn send(socket: TcpStream, kept: Kept) -> Option<()> {
    let mut cursor = None;
    #[expect(clippy::result_large_err, reason = "the callback's form is the library's")]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let url = Url::parse("ws://localhost").and_then(|base| base.join(&request.uri().to_string())).unwrap();
        cursor = url.query_pairs().find(|(name, _)| name == "cursor").and_then(|(_, value)| value.parse::<i64>().ok());
        Ok(response)
    };
    let mut socket = accept_hdr_async(socket, note).await.ok()?;
    let mut count = kept.count.subscribe();
    // Without a cursor, nothing of what has been.
    let from = |lines: &[(i64, String)]| cursor.map_or(lines.len(), |at| lines.partition_point(|(time, _)| *time < at));
    let mut sent = from(&kept.lines.lock().unwrap());
    loop {
        count.borrow_and_update();
        let rest: Vec<String> = kept.lines.lock().unwrap()[sent..].iter().map(|(_, line)| line.clone()).collect();
        sent += rest.len();
        for line in rest {
            socket.feed(Message::text(line)).await.ok()?;
        }
        socket.flush().await.ok()?;
        tokio::select! {
            // Pings are answered on the way.
            said = socket.next() => drop(said?.ok()?),
            told = count.changed() => told.ok()?,
        }
    }
}
