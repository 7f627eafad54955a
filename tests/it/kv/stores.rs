//! The stores that every promise is tested on.

#![expect(clippy::print_stdout, reason = "a failure is to be told apart by its store")]

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use gateway::infra::{
    clock::Clock,
    db::Db,
    kv::{Kv, KvSettings},
};
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use crate::support::database::{TestDb, databases, sqlite};

/// Far more than any of this takes.
pub(crate) const NEVER: Duration = Duration::from_mins(1);

/// A store that nobody else uses.
pub(super) struct Store {
    database: TestDb,
    url: Option<String>,
    namespace: String,
}

impl Store {
    /// One on Redis, by way of this address.
    pub(super) async fn on_redis(url: String) -> Self {
        Self { database: sqlite().await, url: Some(url), namespace: namespace() }
    }

    /// A handle of its own, as another process would have.
    pub(super) async fn open(&self) -> Kv {
        self.open_as(self.namespace.clone()).await
    }

    /// A handle of another installation on the same server.
    pub(super) async fn open_beside(&self) -> Kv {
        self.open_as(format!("{}-b", self.namespace)).await
    }

    async fn open_as(&self, namespace: String) -> Kv {
        let db = self.database.connect_again().await;
        Kv::open(&settings(self.url.clone(), namespace), db, Clock::system()).await.unwrap()
    }

    /// A database: the one that the embedded store is in, where there is one.
    pub(super) fn db(&self) -> &Db {
        &self.database.db
    }

    /// Its database, for feeds.
    pub(super) fn database(&self) -> &TestDb {
        &self.database
    }

    /// Whether it is on Redis.
    pub(super) fn is_remote(&self) -> bool {
        self.url.is_some()
    }

    /// Deletes everything.
    pub(super) async fn discard(self) {
        if self.url.is_some() {
            forget(&self.namespace).await;
        }
        self.database.discard().await;
    }
}

/// Deletes what begins so on Redis.
pub(crate) async fn forget(namespace: &str) {
    let mut redis = administer().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{namespace}*")).query_async(&mut redis).await.unwrap();
    for key in &keys {
        // Only the count of fences, of which each namespace has one, never expires.
        let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(&mut redis).await.unwrap();
        assert!(ttl != -1 || key.ends_with(":fence"), "{key} would stay for ever");
        redis::cmd("DEL").arg(key).exec_async(&mut redis).await.unwrap();
    }
}

pub(super) fn settings(url: Option<String>, namespace: String) -> KvSettings {
    KvSettings { url, namespace }
}

/// Runs the test on each store in turn, and cleans up even when it fails.
pub(super) async fn on_each_store(test: impl AsyncFn(&Store)) {
    for database in databases().await {
        run(Store { database, url: None, namespace: namespace() }, &test).await;
    }
    run(Store::on_redis(redis_url()).await, &test).await;
}

/// Runs the test on one store.
pub(super) async fn run(store: Store, test: impl AsyncFn(&Store)) {
    println!("on {:?}, on redis: {}", store.db().backend(), store.is_remote());
    if store.is_remote() {
        // A Redis that is not there must fail the test before it passes for want of one.
        administer().await;
    }
    let outcome = AssertUnwindSafe(test(&store)).catch_unwind().await;
    store.discard().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until it holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What must happen, and soon.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, work).await.expect("it happens")
}

async fn administer() -> MultiplexedConnection {
    let client = redis::Client::open(redis_url()).expect("TEST_REDIS_URL is a URL");
    let connection = client.get_multiplexed_async_connection().await;
    connection.expect("a Redis answers at TEST_REDIS_URL, or at redis://127.0.0.1:6379 without it")
}

fn namespace() -> String {
    format!("test-{}", Uuid::now_v7().simple())
}

/// Where the tests' Redis is.
#[expect(clippy::disallowed_methods, reason = "where the tests' servers are is not a setting of the gateway")]
pub(crate) fn redis_url() -> String {
    std::env::var("TEST_REDIS_URL")
        .ok()
        .filter(|url| !url.is_empty())
        .unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned())
}
