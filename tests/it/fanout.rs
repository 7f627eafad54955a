//! Many subscribers of the change log through the real doors: what they share, and what they do not.

use std::time::Duration;

use entities::sets::SourceType;
use futures_util::future::join_all;
use gateway::{
    api::http::router,
    app::App,
    domain::{
        account::{self, SignedIn},
        actor::Actor,
        change::{Cursor, head},
        key::{self, Named},
        session::{self, Kind},
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
    app::{TestApp, make_key, make_key_of},
    changes::{commit, event, row},
    database::{TestDb, on_each_database, sqlite},
    graphql::{GraphQl, Subscription},
    records::did,
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor, $filter: EventIngestedFilter) {
    eventIngested(after: $after, filter: $filter) { cursor eventId event { name organizer { handle } } }
}";

/// With what not everybody is shown.
const PERSONAL: &str = "subscription ($after: StreamCursor) {
    eventIngested(after: $after) { cursor event { organizer { ...named } } }
}
fragment named on Account { handle blueskyProfile { did displayName } }";

/// A member, and the token of a session of theirs.
async fn session_of(app: &App, person: usize, kind: Kind) -> (i64, String) {
    let signed_in = SignedIn {
        did: did(8, person),
        handle: None,
        pds: "https://pds.example.com".parse().unwrap(),
        scopes: Vec::new(),
    };
    let user = account::sign_in(app, &signed_in).await.unwrap();
    (user.id, session::open(app, user.id, kind, None).await.unwrap().token)
}

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
        let app = &world.test.app;
        let key = make_key(app, "a key", &[SourceType::Web], false).await;
        let cookie = format!("session={}", session_of(app, 1, Kind::Cookie).await.1);
        // Nobody in particular, programs and people, all of them in one.
        let (start, key, cookie) = (&start, &key, &cookie);
        let readers = (0..READERS).map(async |number| match number % 3 {
            0 => world.api.subscribe(SUBSCRIPTION, start).await,
            1 => world.api.subscribe_as(key, SUBSCRIPTION, start).await,
            _ => world.api.subscribe_in_page(cookie, SUBSCRIPTION, start).await,
        });
        let mut readers = join_all(readers).await;
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
async fn a_tenant_shares_whatever_its_subscribers_show() {
    let metrics = telemetry::metrics().unwrap();
    let database = sqlite().await;
    let world = World::open(&database, &metrics).await;
    let (app, api) = (&world.test.app, &world.api);
    let other = tenant::create(app, "other", "Other").await.unwrap();
    let key = make_key(app, "a key", &[SourceType::Web], false).await;
    let both = make_key_of(app, &["default", "other"], &[SourceType::Web], true).await;
    let (_, bearer) = session_of(app, 1, Kind::Bearer).await;
    let cookie = format!("theme=dark; session={}", session_of(app, 2, Kind::Cookie).await.1);
    let start = json!({ "after": head(app.db.read()).await.unwrap().to_string() });
    let there = json!({ "authorization": format!("Bearer {both}"), "x-tenant-id": "other" });
    let mut ours = [
        api.subscribe(SUBSCRIPTION, &start).await,
        api.subscribe_of("default", SUBSCRIPTION, &start).await,
        api.subscribe_as(&key, SUBSCRIPTION, &start).await,
        api.subscribe_as(&both, SUBSCRIPTION, &start).await,
        api.subscribe_as(&bearer, SUBSCRIPTION, &start).await,
        api.subscribe_in_page(&cookie, SUBSCRIPTION, &start).await,
        api.subscribe_in_page("session=opens nothing", SUBSCRIPTION, &start).await,
    ];
    let mut theirs = [
        api.subscribe_of("other", SUBSCRIPTION, &start).await,
        api.subscribe_with(there, SUBSCRIPTION, &start).await,
        // Nobody there, whoever it is here.
        api.subscribe_with(json!({ "x-tenant-id": "other" }), SUBSCRIPTION, &start).await,
    ];
    world.until("gateway_graphql_subscriptions", 10).await;
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

/// A profile may be kept from those who are not signed in.
#[tokio::test(flavor = "multi_thread")]
async fn what_not_everybody_is_shown_is_shared_by_nobody_who_is_somebody() {
    let metrics = telemetry::metrics().unwrap();
    let database = sqlite().await;
    let world = World::open(&database, &metrics).await;
    let (app, api) = (&world.test.app, &world.api);
    let key = make_key(app, "a key", &[SourceType::Web], false).await;
    let (_, bearer) = session_of(app, 1, Kind::Bearer).await;
    let cookie = format!("session={}", session_of(app, 2, Kind::Cookie).await.1);
    let start = json!({ "after": head(app.db.read()).await.unwrap().to_string() });
    let nobody = [api.subscribe(PERSONAL, &start).await, api.subscribe(PERSONAL, &start).await];
    world.until("gateway_graphql_subscriptions", 2).await;
    world.until("gateway_graphql_shared_runs", 1).await;
    drop(nobody);
    world.until("gateway_graphql_shared_runs", 0).await;
    let _somebody = [
        api.subscribe_as(&key, PERSONAL, &start).await,
        api.subscribe_as(&key, PERSONAL, &start).await,
        api.subscribe_as(&bearer, PERSONAL, &start).await,
        api.subscribe_in_page(&cookie, PERSONAL, &start).await,
    ];
    // Who shares is a member before it counts.
    world.until("gateway_graphql_subscriptions", 4).await;
    world.until("gateway_graphql_shared_runs", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_no_more_leaves_and_the_others_stay() {
    let metrics = telemetry::metrics().unwrap();
    let database = sqlite().await;
    let world = World::open(&database, &metrics).await;
    let (app, api) = (&world.test.app, &world.api);
    let id = event(&database.db, database.tenant, "party", |_| {}).await;
    let start = json!({ "after": head(app.db.read()).await.unwrap().to_string() });
    let (key, kept) =
        (make_key(app, "a key", &[SourceType::Web], false).await, make_key(app, "b", &[SourceType::Web], false).await);
    let (bearer, bearer_token) = session_of(app, 1, Kind::Bearer).await;
    let (browser, token) = session_of(app, 2, Kind::Cookie).await;
    let cookie = format!("session={token}");
    // The first one begins the run, and is the first to leave.
    let mut leaving = vec![api.subscribe_as(&bearer_token, SUBSCRIPTION, &start).await];
    world.until("gateway_graphql_shared_runs", 1).await;
    leaving.push(api.subscribe_in_page(&cookie, SUBSCRIPTION, &start).await);
    leaving.push(api.subscribe_as(&key, SUBSCRIPTION, &start).await);
    let mut staying = [api.subscribe(SUBSCRIPTION, &start).await, api.subscribe_as(&kept, SUBSCRIPTION, &start).await];
    world.until("gateway_graphql_subscriptions", 5).await;
    let first = commit(&database.db, vec![row(database.tenant, id)]).await.unwrap();
    app.changes.ring();
    for subscription in leaving.iter_mut().chain(&mut staying) {
        hears(subscription, &first).await;
    }
    world.until("gateway_graphql_shared_runs", 1).await;
    session::revoke_all(app, bearer).await.unwrap();
    session::revoke_all(app, browser).await.unwrap();
    key::revoke(app, &Actor::Operator, Named::Text(&key)).await.unwrap();
    for subscription in &mut leaving {
        assert!(subscription.next_or_end().await.is_none(), "nothing more is told");
        assert_eq!(subscription.closed, Some(4401));
    }
    world.until("gateway_graphql_subscriptions", 2).await;
    let second = commit(&database.db, vec![row(database.tenant, id)]).await.unwrap();
    app.changes.ring();
    for subscription in &mut staying {
        hears(subscription, &second).await;
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
