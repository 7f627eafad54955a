//! A stretch of network between the gateway and Redis that can be cut, and can fall silent.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use url::Url;

use super::stores::redis_url;

/// Forwards connections to the tests' Redis until it is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    is_silent: Arc<watch::Sender<bool>>,
    cuts: Arc<watch::Sender<u64>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// On a port of its own, or on this one.
    pub(super) async fn start(port: u16) -> Self {
        let url: Url = redis_url().parse().unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(6379));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_silent, cuts) = (Arc::new(watch::Sender::new(false)), Arc::new(watch::Sender::new(0)));
        let mut tasks = JoinSet::new();
        let (silence, scissors) = (Arc::clone(&is_silent), Arc::clone(&cuts));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (server, silence, mut cut) = (server.clone(), silence.subscribe(), scissors.subscribe());
                connections.spawn(async move {
                    let far = TcpStream::connect(server).await.unwrap();
                    let (near, far) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = forward(near.0, far.1, silence.clone()) => {}
                        () = forward(far.0, near.1, silence) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, is_silent, cuts, _tasks: tasks }
    }

    /// The URL of Redis by this way.
    pub(super) fn url(&self) -> String {
        by_way_of(self.address.port())
    }

    /// From now on nothing comes through, though connections stay and new ones are taken.
    pub(super) fn silence(&self, is_silent: bool) {
        self.is_silent.send_replace(is_silent);
    }

    pub(super) fn is_silent(&self) -> bool {
        *self.is_silent.borrow()
    }

    /// Ends all connections.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }
}

/// The URL of the tests' Redis with a port of this machine.
pub(super) fn by_way_of(port: u16) -> String {
    let mut url: Url = redis_url().parse().unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    url.to_string()
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if is_silent.wait_for(|is_silent| !is_silent).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
