//! A way to a server that the test can cut, close, and let fall silent.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use url::Url;

/// Passes connections on until it is dropped; then nobody answers at its address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    server: String,
    open: Arc<Mutex<JoinSet<()>>>,
    is_silent: watch::Sender<bool>,
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
        let (is_silent, silence) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut silence) = (target.clone(), silence.clone());
                connections.lock().unwrap().spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    let silenced = async {
                        let _ = silence.wait_for(|is_silent| *is_silent).await;
                    };
                    tokio::select! {
                        biased;
                        // For ever, with both ends open.
                        () = silenced => pending().await,
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                    }
                });
            }
        });
        Self { address, server: url.to_owned(), open, is_silent, accepting }
    }

    /// The same URL, through the proxy.
    pub(crate) fn url(&self) -> String {
        let mut url = Url::parse(&self.server).unwrap();
        url.set_host(Some(&self.address.ip().to_string())).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.to_string()
    }

    /// From now on no connection says anything any more, as when the server's machine has vanished; new ones are taken, and say
    /// nothing either.
    pub(crate) fn fall_silent(&self) {
        self.is_silent.send_replace(true);
    }

    /// Lets new connections through again; those from before stay as they are.
    pub(crate) fn speak(&self) {
        self.is_silent.send_replace(false);
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
