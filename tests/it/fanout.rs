//! Many subscribers of the change log through the real doors: what they share, and what they do not.

use std::time::Duration;

use entities::sets::SourceType;
use futures_util::future::join_all;
use gateway::{
    api::http::router,
    domain::{
        change::{Cursor, head},
        tenant,
    },
    telemetry,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::support::{
    app::{TestApp, make_key},
    changes::{commit, event, row},
    database::{TestDb, on_each_database, sqlite},
    graphql::{GraphQl, Subscription},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor, $filter: EventIngestedFilter) {
    eventIngested(after: $after, filter: $filter) { cursor eventId event { name organizer { handle } } }
}";

struct World {
    test: TestApp,
    api: GraphQl,
    metrics: PrometheusHandle,
    _running: DropGuard,
}

impl World {
    async fn open(database: &TestDb, metrics: &PrometheusHandle) -> Self {
        let test = TestApp::open(database).await;
        let shutdown = CancellationToken::new();
        tokio::spawn(test.app.changes.clone().run(shutdown.clone()));
        let doors = router(&test.app, metrics.clone(), shutdown.clone(), TaskTracker::new()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = GraphQl::new(listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, doors).await });
        Self { test, api, metrics: metrics.clone(), _running: shutdown.drop_guard() }
    }

    async fn until(&self, gauge: &str, expected: usize) {
        let line = format!("{gauge} {expected}");
        let wait = async {
            while !self.metrics.render().lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{line}");
    }
}

fn cursor(told: &Value) -> Cursor {
    told["eventIngested"]["cursor"].as_str().unwrap().parse().unwrap()
}

async fn hears(subscription: &mut Subscription, ids: &[i64]) {
    for id in ids {
        assert_eq!(cursor(&subscription.next().await).position(), *id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_read_once_for_all_who_share() {
    const READERS: usize = 40;
    const BURST: usize = 50;
    let metrics = telemetry::metrics().unwrap();
    on_each_database(async |database| {
        let world = World::open(database, &metrics).await;
        let id = event(&database.db, database.tenant, "party", |_| {}).await;
        let start = json!({ "after": head(database.db.read()).await.unwrap().to_string() });
        let mut readers = join_all((0..READERS).map(|_| world.api.subscribe(SUBSCRIPTION, &start))).await;
        world.until("gateway_graphql_subscriptions", READERS).await;
        world.until("gateway_graphql_shared_runs", 1).await;
        let first = commit(&database.db, vec![row(database.tenant, id)]).await.unwrap();
        world.test.app.changes.ring();
        for reader in &mut readers {
            hears(reader, &first).await;
        }
        let before = world.test.app.db.statement_count();
        let ids = commit(&database.db, vec![row(database.tenant, id); BURST]).await.unwrap();
        world.test.app.changes.ring();
        for reader in &mut readers {
            hears(reader, &ids).await;
        }
        let statements = world.test.app.db.statement_count() - before;
        assert!(statements < (READERS * BURST / 2) as u64, "{statements} statements");
        drop(readers);
        world.until("gateway_graphql_shared_runs", 0).await;
        world.until("gateway_graphql_subscriptions", 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_whoever_shows_something_do_not_share() {
    let metrics = telemetry::metrics().unwrap();
    let database = sqlite().await;
    let world = World::open(&database, &metrics).await;
    let app = &world.test.app;
    let other = tenant::create(app, "other", "Other").await.unwrap();
    let key = make_key(app, "a key", &[SourceType::Web], false).await;
    let start = json!({ "after": head(app.db.read()).await.unwrap().to_string() });
    let mut ours = [
        world.api.subscribe(SUBSCRIPTION, &start).await,
        world.api.subscribe_of("default", SUBSCRIPTION, &start).await,
        world.api.subscribe_as(&key, SUBSCRIPTION, &start).await,
        world.api.subscribe_as(&key, SUBSCRIPTION, &start).await,
    ];
    let mut theirs = [
        world.api.subscribe_of("other", SUBSCRIPTION, &start).await,
        world.api.subscribe_of("other", SUBSCRIPTION, &start).await,
    ];
    world.until("gateway_graphql_subscriptions", 6).await;
    world.until("gateway_graphql_shared_runs", 2).await;
    let (our_event, their_event) = (
        event(&database.db, database.tenant, "ours", |_| {}).await,
        event(&database.db, other, "theirs", |_| {}).await,
    );
    let mut expected: [Vec<i64>; 2] = Default::default();
    for round in 0..20 {
        let (tenant, id) = if round % 3 == 0 { (other, their_event) } else { (database.tenant, our_event) };
        expected[usize::from(round % 3 == 0)].extend(commit(&database.db, vec![row(tenant, id)]).await.unwrap());
        app.changes.ring();
    }
    for subscription in &mut ours {
        hears(subscription, &expected[0]).await;
    }
    for subscription in &mut theirs {
        hears(subscription, &expected[1]).await;
    }
}

/// Everybody sees the whole log, once and in order, however often they come back.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_miss_nothing() {
    const COMMITS: usize = 60;
    let metrics = telemetry::metrics().unwrap();
    on_each_database(async |database| {
        let world = World::open(database, &metrics).await;
        let id = event(&database.db, database.tenant, "party", |_| {}).await;
        let start = head(database.db.read()).await.unwrap();
        let (last, end) = watch::channel(i64::MAX);
        let readers: Vec<_> =
            (0..12).map(|_| tokio::spawn(read_with_interruptions(world.api, start, end.clone()))).collect();
        let mut written = Vec::new();
        for _ in 0..COMMITS {
            let count = fastrand::usize(1..=4);
            written.extend(commit(&database.db, vec![row(database.tenant, id); count]).await.unwrap());
            world.test.app.changes.ring();
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..15))).await;
        }
        last.send_replace(*written.last().unwrap());
        for reader in readers {
            let seen = tokio::time::timeout(PATIENCE, reader).await.expect("a change is missing").unwrap();
            assert_eq!(seen, written);
        }
    })
    .await;
}

async fn read_with_interruptions(api: GraphQl, start: Cursor, mut end: watch::Receiver<i64>) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut after = start;
    loop {
        let mut subscription = api.subscribe(SUBSCRIPTION, &json!({ "after": after.to_string() })).await;
        for _ in 0..fastrand::usize(1..40) {
            if seen.last() >= Some(&*end.borrow()) {
                return seen;
            }
            // What has not come by the end of the writing comes soon, or is missing.
            tokio::select! {
                told = subscription.next() => {
                    after = cursor(&told);
                    seen.push(after.position());
                }
                _ = end.changed() => {}
            }
        }
    }
}
