//! Accepting connections, within bounds: how many there are, how long a client may take to say what it wants, and how long
//! it may leave unread what is written to it.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use metrics::gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::gather::Gather;
use crate::{
    config::Http,
    error::{Error, Result},
    telemetry::Outage,
};

/// Bytes of a connection's buffers, and so of a request's head. They start at 8 KB.
const BUFFER: usize = 64 << 10;
/// Pause when no connection can be accepted, which is for want of file descriptors or memory.
const WANT: Duration = Duration::from_secs(1);

/// Takes the address; a taken one is told at once.
pub(super) async fn bind(http: &Http) -> Result<TcpListener> {
    let listen = http.listen;
    let failed = |source| Error::Unavailable { service: "listener", source };
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| failed(anyhow::Error::new(error).context(format!("listen on {listen}"))))?;
    let address = listener.local_addr().map_err(|error| failed(error.into()))?;
    info!(%address, "listening on http://{address}");
    Ok(listener)
}

/// Serves until the token is cancelled; then accepts nothing more, and returns when the requests under way are answered.
///
/// A connection that became a WebSocket is no longer counted here: those have a bound of their own.
pub(super) async fn serve(listener: TcpListener, router: Router, http: &Http, shutdown: &CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(http.header_timeout()).max_buf_size(BUFFER);
    let places = Arc::new(Semaphore::new(http.max_connections));
    let connections = TaskTracker::new();
    let (mut full, mut want) = (Outage::default(), Outage::default());
    loop {
        if places.available_permits() == 0 {
            if full.fails() {
                warn!("{} connections are open: further ones wait (http.max_connections)", http.max_connections);
            }
        } else if full.works() {
            info!("there is room for connections again");
        }
        let Some(Some((socket, place))) = shutdown.run_until_cancelled(accept(&listener, &places, &mut want)).await
        else {
            break;
        };
        let service = TowerToHyperService::new(router.clone());
        // Stays with the connection when it becomes a WebSocket.
        let mut socket = TimeoutStream::new(socket);
        socket.set_write_timeout(Some(http.write_timeout()));
        let socket = Gather::new(Box::pin(socket));
        let connection = server.serve_connection(TokioIo::new(socket), service).with_upgrades();
        let ending = shutdown.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = ending.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                debug!(%error, "a connection ended badly");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection, when there is a place for it: until then clients wait in the system's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, want: &mut Outage) -> Option<(TcpStream, Place)> {
    let permit = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // An event of a subscription leaves at once instead of waiting for the next one.
                if let Err(error) = socket.set_nodelay(true) {
                    debug!(%error, "a socket that was closed before it was accepted");
                }
                want.works();
                return Some((socket, Place::of(permit)));
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                if want.fails() {
                    warn!(%error, "no connection can be accepted; trying again");
                }
                tokio::time::sleep(WANT).await;
            }
        }
    }
}

fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Of one connection, counted; free again when it is dropped.
struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Place {
    fn of(permit: OwnedSemaphorePermit) -> Self {
        gauge!("gateway_http_connections").increment(1);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!("gateway_http_connections").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{
        body::Body,
        http::StatusCode,
        routing::{get, post},
    };
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
        task::JoinHandle,
        time::timeout,
    };

    use super::*;
    use crate::config;

    /// More than the system holds for a client that reads nothing.
    const LARGE: usize = 16 << 20;
    const PATIENCE: Duration = Duration::from_secs(30);

    fn routes() -> Router {
        let piece = Bytes::from(vec![b'x'; 1 << 16]);
        let endless = move || {
            let piece = piece.clone();
            async move { Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()))) }
        };
        let live = get(|| async { "alive" });
        Router::new()
            .route("/large", get(|| async { vec![b'x'; LARGE] }))
            .route("/endless", get(endless))
            .route("/live", live)
            .route("/refuse", post(|| async { StatusCode::UNAUTHORIZED }))
    }

    struct Server {
        address: SocketAddr,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start() -> Self {
            let settings = "http = { listen = '127.0.0.1:0', max_connections = 2, write_timeout_seconds = 1 }";
            let http = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap().http;
            let listener = bind(&http).await.unwrap();
            let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
            let ending = shutdown.clone();
            let task = tokio::spawn(async move { serve(listener, routes(), &http, &ending).await });
            Self { address, shutdown, task }
        }

        async fn end(self) {
            self.shutdown.cancel();
            timeout(PATIENCE, self.task).await.expect("nothing is left to wait for").unwrap();
        }
    }

    async fn ask(stream: &mut TcpStream, path: &str, times: usize) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").repeat(times);
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_read_loses_the_connection() {
        let server = Server::start().await;
        let address = server.address;
        let mut silent = Vec::new();
        for path in ["/large", "/endless"] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            ask(&mut stream, path, 8).await;
            silent.push(stream);
        }
        let mut answer = [0; 15];
        let mut next = TcpStream::connect(address).await.unwrap();
        ask(&mut next, "/live", 1).await;
        timeout(PATIENCE, next.read_exact(&mut answer)).await.expect("a place becomes free").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");

        // Slow is not silent: with pauses shorter than the limit it may take as long as it wants.
        ask(&mut next, "/large", 1).await;
        let mut taken = 0;
        while taken < LARGE {
            let mut buffer = vec![0; LARGE / 8];
            tokio::time::sleep(Duration::from_millis(300)).await;
            taken += timeout(PATIENCE, next.read_exact(&mut buffer)).await.unwrap().unwrap();
        }
        drop(silent);
        drop(next);
        server.end().await;
    }

    /// Most clients look for an answer only when they have sent everything.
    #[tokio::test]
    async fn who_is_refused_while_sending_hears_it() {
        let server = Server::start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; LARGE]).await.expect("what is refused may still be sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer is heard, and the connection ended");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        // Though this end stays open.
        server.end().await;
    }
}
