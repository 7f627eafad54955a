//! The program in the test's own process, without its loops: what a test drives through the pipeline's entrance.

use gateway::{
    app::App,
    config,
    domain::ingest::{Outcome, submit},
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
        let settings =
            format!("database = {{ url = {:?}, max_connections = 6 }}\nstreams = {{ endpoints = [] }}", test.url);
        let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
        Self { app: App::open(config, Clock::system()).await.unwrap() }
    }

    /// Takes a batch of lines through the pipeline.
    pub(crate) async fn submit(&self, batch: &[String]) -> Vec<Outcome> {
        let outcomes = submit(&self.app, batch).await.unwrap();
        assert_eq!(outcomes.len(), batch.len());
        outcomes
    }
}
