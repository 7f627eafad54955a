//! Gateways that people can sign in at, in the test's own process.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::Router;
use chrono::TimeDelta;
use gateway::{api::http::router, app::App, config, infra::clock::Clock};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::browser::Browser;
use crate::support::{database::TestDb, devnet::Devnet};

/// A gateway.
pub(super) struct Stand {
    pub(super) app: App,
    /// Origin by which browsers call it.
    pub(super) origin: String,
    /// Where it really listens.
    pub(super) address: String,
    task: JoinHandle<()>,
}

/// Settings of a gateway for a local network, without streams.
pub(super) fn settings(devnet: Option<&Devnet>, test: &TestDb, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let network = match devnet {
        Some(devnet) => devnet.network.settings(""),
        None => {
            vec![("GATEWAY_STREAMS__ENDPOINTS", String::new()), ("GATEWAY_NETWORK__ALLOW_PRIVATE", "true".to_owned())]
        }
    };
    let network = network.into_iter().map(|(name, value)| (name.to_owned(), value));
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    network.chain([("DATABASE_URL".to_owned(), test.url.clone())]).chain(more).collect()
}

/// The program with these settings, as a process of its own would open it.
pub(super) async fn open(settings: &[(String, String)]) -> App {
    open_with(settings, Clock::system()).await
}

/// The same, with a clock of its own.
pub(super) async fn open_with(settings: &[(String, String)], clock: Clock) -> App {
    let config = config::load(None, settings.to_vec(), toml::Table::new()).unwrap();
    App::open(config, clock).await.unwrap()
}

/// A clock that goes ahead of the machine's when the test says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Time(Arc<AtomicI64>);

impl Time {
    pub(super) fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::steered(move || Clock::system().now() + TimeDelta::seconds(ahead.load(Ordering::SeqCst)))
    }

    /// Lets time pass; a negative one is taken back.
    pub(super) fn pass(&self, time: TimeDelta) {
        self.0.fetch_add(time.num_seconds(), Ordering::SeqCst);
    }
}

impl Stand {
    /// One that people of this machine reach, a public client.
    pub(super) async fn public(settings: &[(String, String)]) -> Self {
        Self::of(open(settings).await).await
    }

    /// The same, of a program that is open.
    pub(super) async fn of(app: App) -> Self {
        let (address, task) = serve(&app).await;
        Self { app, origin: address.clone(), address, task }
    }

    /// One that has a name on a network, a confidential client.
    pub(super) async fn confidential(devnet: &Devnet, settings: &[(String, String)], name: &str, keys: &str) -> Self {
        let origin = format!("https://{name}");
        let mut settings = settings.to_vec();
        settings.push(("GATEWAY_HTTP__PUBLIC_URL".to_owned(), origin.clone()));
        settings.push(("GATEWAY_OAUTH__KEYS".to_owned(), keys.to_owned()));
        let app = open(&settings).await;
        let (address, task) = serve(&app).await;
        devnet.virtual_host(name, &address).await;
        Self { app, origin, address, task }
    }

    /// A browser that was never here.
    pub(super) fn browser(&self) -> Browser {
        Browser::knowing(&self.origin, &self.address)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(app: &App) -> (String, JoinHandle<()>) {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let routes = router(app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap();
    listen(routes).await
}

/// Serves on a port of its own.
pub(super) async fn listen(routes: Router) -> (String, JoinHandle<()>) {
    listen_at("127.0.0.1:0", routes).await
}

/// Serves at an address.
pub(super) async fn listen_at(address: &str, routes: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (address, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}
