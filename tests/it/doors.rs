//! The HTTP server as a whole: what the parts do together.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use gateway::{
    api::http::{probes, router},
    app::App,
    config,
    infra::clock::Clock,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::support::{
    app::TestApp,
    database::{on_each_database, sqlite},
};

fn doors(test: &TestApp) -> Router {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    router(&test.app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap()
}

async fn status(doors: &Router, request: Request<Body>) -> StatusCode {
    doors.clone().oneshot(request).await.unwrap().status()
}

async fn ask(doors: &Router, body: &Value) -> (StatusCode, Value) {
    let request = Request::post("/graphql")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/graphql-response+json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = doors.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask() {
    on_each_database(async |database| {
        let mut test = TestApp::open(database).await;
        let mut config = (*test.app.config).clone();
        config.http.allowed_origins = vec!["https://app.example".to_owned()];
        test.app.config = config.into();
        let doors = doors(&test);
        for (origin, may) in [("https://app.example", true), ("https://evil.example", false)] {
            let preflight = Request::options("/graphql")
                .header(header::ORIGIN, origin)
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type")
                .body(Body::empty())
                .unwrap();
            let response = doors.clone().oneshot(preflight).await.unwrap();
            assert!(response.status().is_success(), "{}", response.status());
            let allowed = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed.is_some_and(|allowed| allowed == origin), may, "{origin}");
        }
    })
    .await;
}

#[tokio::test]
async fn text_that_no_database_holds_is_the_callers_mistake() {
    on_each_database(async |database| {
        let test = TestApp::open(database).await;
        let doors = doors(&test);
        let literal = json!({ "query": r#"{ events(filter: { query: "a\u0000b" }) { nodes { id } } }"# });
        let variable = json!({
            "query": "query ($slug: String) { event(by: { slug: $slug }) { id } }",
            "variables": { "slug": "a\u{0}b" },
        });
        for body in [literal, variable] {
            let (status, answer) = ask(&doors, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
        }
        let two = json!({ "query": "subscription { a: eventIngested { cursor } b: eventIngested { cursor } }" });
        let (_, answer) = ask(&doors, &two).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED", "{answer}");
    })
    .await;
}

#[tokio::test]
async fn every_process_tells_its_health() {
    on_each_database(async |database| {
        let test = TestApp::open(database).await;
        let ending = CancellationToken::new();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let probes = probes(&test.app, metrics, ending.clone());
        let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        for path in ["/health/live", "/health/ready", "/metrics"] {
            assert_eq!(status(&probes, get(path)).await, StatusCode::OK, "{path}");
        }
        assert_eq!(status(&probes, get("/graphql")).await, StatusCode::NOT_FOUND);
        ending.cancel();
        assert_eq!(status(&probes, get("/health/ready")).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&probes, get("/health/live")).await, StatusCode::OK);
    })
    .await;
}

/// What `/health/ready` says.
async fn readiness(probes: &Router) -> (StatusCode, Value) {
    let request = Request::get("/health/ready").body(Body::empty()).unwrap();
    let response = probes.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn health(app: &App) -> Router {
    probes(app, PrometheusBuilder::new().build_recorder().handle(), CancellationToken::new())
}

#[tokio::test]
async fn a_process_whose_connections_are_all_busy_is_ready() {
    on_each_database(async |database| {
        let app = TestApp::open(database).await.app;
        let mut busy = Vec::new();
        for _ in 0..app.config.database.max_connections {
            busy.push(app.db.pool().begin().await.unwrap());
        }
        let asked = Instant::now();
        let (status, body) = readiness(&health(&app)).await;
        assert_eq!((status, body), (StatusCode::OK, json!({ "status": "ok", "dependencies": { "database": "ok" } })));
        assert!(asked.elapsed() < Duration::from_secs(2), "it waited for the others");
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready() {
    on_each_database(async |database| {
        let app = if database.db.backend() == DbBackend::Postgres {
            let app = TestApp::open(database).await.app;
            let name = database.url.rsplit('/').next().unwrap();
            let sql = format!(r#"ALTER DATABASE "{name}" SET default_transaction_read_only = on"#);
            app.db.read().execute_unprepared(&sql).await.unwrap();
            app
        } else {
            let url = database.url.replace("mode=rwc", "mode=ro");
            let settings = format!("database = {{ url = {url:?}, migrate = false }}");
            let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
            App::open(config, Clock::system()).await.unwrap()
        };
        let (status, body) = readiness(&health(&app)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert_eq!(body, json!({ "status": "down", "dependencies": { "database": "down" } }));
    })
    .await;
}

#[tokio::test]
async fn a_database_that_somebody_writes_to_is_ready() {
    let test = sqlite().await;
    let app = TestApp::open(&test).await.app;
    let probes = health(&app);
    let writing = test.db.transact(|_| async {
        let (status, body) = readiness(&probes).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        Ok(())
    });
    writing.await.unwrap();
    test.discard().await;
}
