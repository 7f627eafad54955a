//! Gateways that people can sign in at, in the test's own process.

use axum::Router;
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
    let config = config::load(None, settings.to_vec(), toml::Table::new()).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

impl Stand {
    /// One that people of this machine reach, a public client.
    pub(super) async fn public(settings: &[(String, String)]) -> Self {
        let app = open(settings).await;
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (address, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}
