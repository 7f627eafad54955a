//! The least that can be done: a broadcast channel and WebSockets, with the gateway's socket settings and nothing besides.

use anyhow::Result;
use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
    routing::{get, post},
    serve::ListenerExt as _,
};
use tokio::{net::TcpListener, sync::broadcast};

/// As the gateway's.
const READ_BUFFER: usize = 512;
const WRITE_BUFFER: usize = 0;
/// More than a burst.
const RING: usize = 1024;

/// Serves until it is killed, after it has printed its port. `POST /tell` sends each line to everybody on `/ws`.
pub(crate) async fn serve() -> Result<()> {
    let (ring, _) = broadcast::channel::<Utf8Bytes>(RING);
    let router = Router::new().route("/ws", get(open)).route("/tell", post(tell)).with_state(ring);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let listener = listener.tap_io(|socket| {
        socket.set_nodelay(true).ok();
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn tell(State(ring): State<broadcast::Sender<Utf8Bytes>>, body: String) {
    for line in body.lines() {
        ring.send(line.to_owned().into()).ok();
    }
}

async fn open(State(ring): State<broadcast::Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    let frames = ring.subscribe();
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .on_upgrade(|socket| async move { drop(pass(socket, frames).await) })
}

async fn pass(mut socket: WebSocket, mut frames: broadcast::Receiver<Utf8Bytes>) -> Result<()> {
    loop {
        tokio::select! {
            frame = frames.recv() => socket.send(Message::Text(frame?)).await?,
            heard = socket.recv() => match heard {
                Some(heard) => drop(heard?),
                None => return Ok(()),
            },
        }
    }
}
