//! The integration API, as the programs that use it meet it.

mod answers;
mod door;
mod failures;
mod network;
mod processors;
mod programs;
mod sameness;
mod tenants;
mod updates;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use entities::{event, source_record};
use gateway::{api::http::router, domain::key::SOURCES};
use metrics_exporter_prometheus::PrometheusBuilder;
use sea_orm::{EntityTrait, QueryOrder};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::support::{
    app::TestApp,
    database::TestDb,
    records::{BEGINNING, EVENT, datetime, did, tid, uri},
};

const EVENTS: &str = "/api/integration/events";
const RSVPS: &str = "/api/integration/rsvps";

/// The program, its doors, and a key for every source.
struct Bench {
    test: TestApp,
    doors: Router,
    key: String,
    /// The tenant that requests name.
    tenant: Option<&'static str>,
}

impl Bench {
    async fn open(database: &TestDb) -> Self {
        Self::of(TestApp::open(database).await).await
    }

    async fn of(test: TestApp) -> Self {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let doors = router(&test.app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap();
        let key = test.key(&SOURCES, false).await;
        Self { test, doors, key, tenant: None }
    }

    /// The same doors, by another key and for the tenant that requests name.
    fn by(&self, key: &str, tenant: Option<&'static str>) -> Self {
        let test = TestApp { app: self.test.app.clone() };
        Self { test, doors: self.doors.clone(), key: key.to_owned(), tenant }
    }

    /// With this key, these headers, and this body.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(tenant) = self.tenant
            && headers.iter().all(|(name, _)| *name != "x-tenant-id")
        {
            request = request.header("x-tenant-id", tenant);
        }
        let response = self.doors.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, answer) =
            self.send(Method::POST, path, &[("authorization", &self.bearer())], body.to_string()).await;
        (status, answer)
    }

    /// Posts what is to be accepted.
    async fn bring(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        assert_eq!(answer["success"], true, "{answer}");
        answer
    }

    async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, answer) =
            self.send(Method::DELETE, path, &[("authorization", &self.bearer())], Body::empty()).await;
        (status, answer)
    }

    /// Takes away what is there.
    async fn take_away(&self, path: &str) {
        let (status, answer) = self.delete(path).await;
        assert_eq!((status, &answer["outcome"]), (StatusCode::ACCEPTED, &"deleted".into()), "{answer}");
    }

    async fn events(&self) -> Vec<event::Model> {
        event::Entity::find().order_by_asc(event::Column::Id).all(self.test.app.db.read()).await.unwrap()
    }

    async fn records(&self) -> Vec<source_record::Model> {
        source_record::Entity::find()
            .order_by_asc(source_record::Column::Uri)
            .all(self.test.app.db.read())
            .await
            .unwrap()
    }

    /// What a query gives; an error fails the test.
    async fn query(&self, document: &str) -> Value {
        let body = json!({ "query": document }).to_string();
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        let (_, _, mut answer) = self.send(Method::POST, "/graphql", &headers, body).await;
        assert!(answer.get("errors").is_none(), "{answer:#}");
        answer["data"].take()
    }
}

fn rkey(number: i64) -> String {
    tid(BEGINNING + number, 7)
}

/// An event by its fields alone.
fn of_fields(number: i64, rev: i64) -> Value {
    json!({
        "name": format!("Event {number}"),
        "startDate": "2027-01-01T18:00:00Z",
        "source": {
            "type": "bluesky", "id": did(1, 1),
            "metadata": { "rkey": rkey(number), "collection": EVENT, "rev": tid(BEGINNING + rev, 1) },
        },
    })
}

fn answer_to(number: i64, rev: i64, status: &str) -> Value {
    json!({
        "eventSourceId": did(1, 1), "eventSourceType": "bluesky", "userDid": did(1, 2), "status": status,
        "metadata": {
            "rkey": rkey(500), "rev": tid(BEGINNING + rev, 2), "eventUri": uri(&did(1, 1), EVENT, &rkey(number)),
        },
    })
}

/// An event of a scraper, by its fields alone.
fn of_web(id: &str) -> Value {
    json!({
        "name": format!("Event {id}"), "startDate": "2027-01-01T18:00:00Z",
        "source": { "type": "web", "id": id, "url": format!("https://www.example.com/{id}") },
    })
}

/// What somebody answers to it.
fn to_web(id: &str, person: usize, status: &str) -> Value {
    json!({ "eventSourceId": id, "eventSourceType": "web", "userDid": did(1, person), "status": status })
}

/// What a host says of an account.
fn account(person: usize, at: i64, status: Option<&str>) -> String {
    let account = json!({ "active": status.is_none(), "status": status, "did": did(1, person), "time": datetime(at) });
    json!({ "did": did(1, person), "time_us": at, "kind": "account", "account": account }).to_string()
}
