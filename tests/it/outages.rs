//! Servers that are away: who is ready without them, and how soon all goes on when they are back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use chrono::TimeDelta;
use entities::{identity, source_record};
use futures_util::future::join_all;
use gateway::{
    api::http::{Probes, probes},
    app::App,
    config,
    domain::{account, tenant::Tenant},
    error::Error,
    infra::{
        clock::Clock,
        queue::{Broker, BrokerSettings, Message, Queue, Topic},
        resilience::Recovery,
    },
};
use metrics_exporter_prometheus::PrometheusBuilder;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    queue::broker::{self, TestBroker},
    support::{
        database::{TestDb, on_each_database, postgres, sqlite},
        devnet::HTTP,
        process::{Program, kill},
        proxy::Proxy,
        records::{EVENT, commit, did, tid},
    },
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Within this time everything goes on when a server is back.
const SOON: Duration = Duration::from_secs(10);

async fn open(test: &TestDb, database: &str, redis: &str) -> App {
    let settings = format!(
        "database = {{ url = {database:?}, max_connections = 6 }}
        kv = {{ url = {redis:?}, namespace = 'test-{}' }}
        streams = {{ endpoints = [] }}",
        test.tenant.id()
    );
    let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

/// The probes of a process.
fn vitals(app: &App, broker: Option<&Broker>, needs_broker: bool) -> Router {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let seen = Probes { metrics, broker: broker.cloned(), needs_broker };
    probes(app, seen, CancellationToken::new())
}

/// What they say about readiness.
async fn readiness(vitals: &Router) -> (StatusCode, Value) {
    let request = Request::get("/health/ready").body(Body::empty()).unwrap();
    let response = vitals.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// Waits until they say so; how long it took.
async fn until(vitals: &Router, status: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let (_, body) = readiness(vitals).await;
        if body["status"] == status {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{body} instead of {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_directory_that_asks_for_patience_gets_it() {
    on_each_database(async |test| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let refuse = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "900")]) }
        };
        let settings = format!(
            "database = {{ url = {:?}, max_connections = 6 }}
            network = {{ plc_url = 'http://{}', allow_private = true }}
            streams = {{ endpoints = [] }}",
            test.url,
            listener.local_addr().unwrap()
        );
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(refuse)).await.unwrap() });
        let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
        let app = App::open(config, Clock::system()).await.unwrap();
        let now = app.clock.now();
        let dids: Vec<String> = (0..30).map(|number| did(5, number)).collect();
        let held = &dids;
        app.db.transact(|tx| async move { account::identity::note(&*tx, held, now).await }).await.unwrap();
        assert_eq!(account::lookup::refresh(&app).await.unwrap().len(), dids.len());
        // Those that were under way when the first answer came had been sent already.
        assert!(asked.load(Ordering::SeqCst) <= 8, "it was asked {asked:?} times");
        assert!(app.directory.rest().is_some_and(|rest| rest > Duration::from_secs(800)));
        for held in identity::Entity::find().all(app.db.read()).await.unwrap() {
            assert!(held.next_check_at - now > TimeDelta::seconds(800), "{held:?}");
            assert_eq!(held.check_attempts, 0, "it has not failed");
        }
        server.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everybody_is_ready_but_degraded() {
    let test = sqlite().await;
    // No port of the machine is lower, and nothing listens there.
    let app = open(&test, &test.url, "redis://127.0.0.1:1").await;
    let (status, body) = readiness(&vitals(&app, None, false)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({ "status": "degraded", "dependencies": { "database": "ok", "redis": "down" } }));
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_broker_only_those_are_ready_who_do_not_need_it() {
    let test = sqlite().await;
    let app = open(&test, &test.url, "").await;
    let proxy = Proxy::before(&broker::url()).await;
    let own = TestBroker::new(proxy.url()).await;
    let broker = own.connect().await;
    let (needs, does_not) = (vitals(&app, Some(&broker), true), vitals(&app, Some(&broker), false));
    let parts = |broker| json!({ "database": "ok", "broker": broker });
    assert_eq!(readiness(&needs).await.1, json!({ "status": "ok", "dependencies": parts("ok") }));

    let address = proxy.address;
    drop(proxy);
    until(&needs, "down").await;
    let (status, body) = readiness(&needs).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["dependencies"], parts("down"));
    until(&does_not, "degraded").await;
    assert_eq!(readiness(&does_not).await.0, StatusCode::OK);

    let _proxy = Proxy::at(address, &broker::url()).await;
    assert!(until(&needs, "ok").await < SOON);
    drop(broker);
    own.discard().await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_start_without_the_broker_and_go_on_when_it_comes() {
    let test = sqlite().await;
    let proxy = Proxy::before(&broker::url()).await;
    let mut own = TestBroker::new(proxy.url()).await;
    // What the program itself declares.
    let prefix = own.settings.prefix;
    own.settings = BrokerSettings { url: broker::url(), prefix, partitions: 2, ..BrokerSettings::default() };
    let program = Program::over(&test.url)
        .with("AMQP_URL", &proxy.url())
        .with("GATEWAY_QUEUE__PREFIX", &own.settings.prefix)
        .with("GATEWAY_QUEUE__PARTITIONS", "2");
    let address = proxy.address;
    drop(proxy);
    let (child, http) = program.serve("firehose,process,sweep").await;
    let begun = Instant::now();
    let (status, body) = loop {
        let answer = HTTP.get(format!("http://{http}/health/ready")).send().await.unwrap();
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        if body["dependencies"]["database"] == "ok" {
            break (status, body);
        }
        assert!(begun.elapsed() < PATIENCE, "{body}");
    };
    assert_eq!(status, 503);
    assert_eq!(body, json!({ "status": "down", "dependencies": { "database": "ok", "broker": "down" } }));

    let back = Instant::now();
    let _proxy = Proxy::at(address, &broker::url()).await;
    let body = commit(&did(1, 1), 1_790_000_000_000_000, &tid(1_790_000_000_000_000, 1), EVENT, "one", None);
    let queue = Queue::rabbit(&own.connect().await, Clock::system(), Topic::Records);
    queue.publish(&[Message { key: did(1, 1), body }]).await.unwrap();
    while source_record::Entity::find().one(test.db.read()).await.unwrap().is_none() {
        assert!(back.elapsed() < SOON, "it does not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What was found a moment ago is told again.
    while HTTP.get(format!("http://{http}/health/ready")).send().await.unwrap().status() != 200 {
        assert!(back.elapsed() < SOON, "it is not ready");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(kill(child).await, "it ended by itself");
    drop(queue);
    own.discard().await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_do_not_wait_for_a_database_that_is_away() {
    let Some(test) = postgres().await else { return };
    let proxy = Proxy::before(&test.url).await;
    let (address, app) = (proxy.address, open(&test, &proxy.url(), "").await);
    let read = async || Tenant::default(app.db.read()).await;
    read().await.unwrap();
    drop(proxy);
    // Connections that are cut, then one that cannot be made; some fail before the others need not try any more.
    let begun = Instant::now();
    for outcome in join_all((0..100).map(|_| read())).await {
        assert!(matches!(outcome, Err(Error::Unavailable { service: "database", .. })), "{outcome:?}");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // Nobody waits for long, and only now and then somebody who tries does at all.
    for _ in 0..100 {
        let begun = Instant::now();
        assert!(read().await.is_err());
        assert!(begun.elapsed() < SOON / 2, "somebody waited for {:?}", begun.elapsed());
    }
    let _proxy = Proxy::at(address, &test.url).await;
    let back = Instant::now();
    while let Err(error) = read().await {
        assert!(back.elapsed() < SOON, "{}", error.chain());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_refused_at_once_and_used_again_soon() {
    let Some(test) = postgres().await else { return };
    let proxy = Proxy::before(&test.url).await;
    let (address, app) = (proxy.address, open(&test, &proxy.url(), "").await);
    let write = async || app.db.transact(|_| async { Ok(()) }).await;
    write().await.unwrap();

    drop(proxy);
    let begun = Instant::now();
    while app.db.circuit().is_closed() {
        assert!(matches!(write().await, Err(Error::Unavailable { service: "database", .. })));
        assert!(begun.elapsed() < PATIENCE * 2, "it never opens");
    }
    for _ in 0..1_000 {
        let begun = Instant::now();
        assert!(write().await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(1), "somebody waited");
    }
    // A loop waits, and nobody has to tell it.
    let waiting = {
        let db = app.db.clone();
        tokio::spawn(async move {
            let mut recovery = Recovery::new("write", [db.circuit().clone()]);
            while let Err(error) = db.transact(|_| async { Ok(()) }).await {
                recovery.pause(&error).await;
            }
        })
    };
    let _proxy = Proxy::at(address, &test.url).await;
    tokio::time::timeout(SOON, waiting).await.expect("it goes on soon").unwrap();
    test.discard().await;
}
