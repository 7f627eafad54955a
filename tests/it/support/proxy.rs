//! A way to a server that the test can cut, and close.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use url::Url;

/// Passes connections on until it is dropped; then nobody answers at its address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: String,
    open: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server of this URL.
    pub(crate) async fn before(url: &str) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), url).await
    }

    /// The same, at an address that another one has left.
    pub(crate) async fn at(address: SocketAddr, url: &str) -> Self {
        let server = Url::parse(url).unwrap();
        let usual = if server.scheme().starts_with("postgres") { 5432 } else { 5672 };
        let target = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap_or(usual));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(JoinSet::new()));
        let connections = Arc::clone(&open);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.lock().unwrap().spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, server: url.to_owned(), open, accepting }
    }

    /// The same URL, through the proxy.
    pub(crate) fn url(&self) -> String {
        let mut url = Url::parse(&self.server).unwrap();
        url.set_host(Some(&self.address.ip().to_string())).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.to_string()
    }

    /// Cuts every connection that is open; new ones are let through.
    pub(crate) fn cut(&self) {
        // Sockets are closed when their tasks are gone.
        *self.open.lock().unwrap() = JoinSet::new();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
