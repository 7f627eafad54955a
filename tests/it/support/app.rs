//! The program in the test's own process, without its loops: what a test drives through the pipeline's entrance.

use entities::sets::SourceType;
use gateway::{
    app::App,
    config,
    domain::{
        actor::Actor,
        ingest::{Outcome, submit},
        key::{self, Wanted},
    },
    infra::clock::Clock,
};

use super::database::TestDb;

/// The program over a test's database, following no stream.
pub(crate) struct TestApp {
    /// The program.
    pub(crate) app: App,
}

impl TestApp {
    /// Opens it with connections of its own, as another process would.
    pub(crate) async fn open(test: &TestDb) -> Self {
        Self::over(&test.url, "").await
    }

    /// Opens it over the database of this URL, with more settings.
    pub(crate) async fn over(url: &str, settings: &str) -> Self {
        // Nobody may be asked: a port on which nothing listens.
        let network = r#"{ plc_url = "http://127.0.0.1:1", appview_url = "", allow_private = true }"#;
        let settings = format!(
            "database = {{ url = {url:?}, max_connections = 6 }}\nstreams = {{ endpoints = [] }}\nnetwork = {network}\n{settings}"
        );
        let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
        Self { app: App::open(config, Clock::system()).await.unwrap() }
    }

    /// A service key that speaks for these sources.
    pub(crate) async fn key(&self, sources: &[SourceType], is_admin: bool) -> String {
        make_key(&self.app, "a key", sources, is_admin).await
    }

    /// Takes a batch of lines through the pipeline.
    pub(crate) async fn submit(&self, batch: &[String]) -> Vec<Outcome> {
        let outcomes = submit(&self.app, batch).await.unwrap();
        assert_eq!(outcomes.len(), batch.len());
        outcomes
    }
}

/// Makes a service key of the tenant that is meant by default, as an operator does.
pub(crate) async fn make_key(app: &App, name: &str, sources: &[SourceType], is_admin: bool) -> String {
    make(app, Wanted { name: name.to_owned(), tenants: Vec::new(), sources: sources.to_vec(), is_admin }).await
}

/// Makes a service key of these tenants, as an operator does.
pub(crate) async fn make_key_of(app: &App, tenants: &[&str], sources: &[SourceType], is_admin: bool) -> String {
    let tenants = tenants.iter().map(|&slug| slug.to_owned()).collect();
    make(app, Wanted { name: "a key".to_owned(), tenants, sources: sources.to_vec(), is_admin }).await
}

async fn make(app: &App, wanted: Wanted) -> String {
    key::create(app, &Actor::Operator, &wanted).await.unwrap().text
}
