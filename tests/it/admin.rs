//! What administrators do by GraphQL, and who may not.

mod access;
mod command;
mod failures;
mod ingesting;
mod keys;
mod tenants;
mod watching;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use gateway::{api::http::router, domain::key::SOURCES};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::support::{
    app::TestApp,
    database::TestDb,
    records::{BEGINNING, EVENT, commit, did, tid},
};

/// The program, its doors, and an administrator's key.
struct Bench {
    test: TestApp,
    doors: Router,
    key: String,
}

impl Bench {
    async fn open(database: &TestDb) -> Self {
        let test = TestApp::open(database).await;
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let doors = router(&test.app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap();
        let key = test.key(&SOURCES, true).await;
        Self { test, doors, key }
    }

    /// Status and text of the answer to whoever shows this.
    async fn send(
        &self,
        authorization: Option<&str>,
        accept: &str,
        document: &str,
        variables: &Value,
    ) -> (StatusCode, String) {
        let body = json!({ "query": document, "variables": variables }).to_string();
        let mut request = Request::post("/graphql").header("content-type", "application/json").header("accept", accept);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let response = self.doors.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The whole answer to whoever shows this key.
    async fn answer(&self, key: Option<&str>, document: &str, variables: &Value) -> (StatusCode, Value) {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let (status, text) = self.send(bearer.as_deref(), "application/json", document, variables).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    /// The data that the administrator gets; an error fails the test.
    async fn ask(&self, document: &str, variables: Value) -> Value {
        let (_, mut answer) = self.answer(Some(&self.key), document, &variables).await;
        assert!(answer.get("errors").is_none(), "{answer:#}");
        answer["data"].take()
    }

    /// The code of the first error that the administrator gets, and its reason.
    async fn refusal(&self, document: &str, variables: Value) -> (String, Value) {
        let (_, answer) = self.answer(Some(&self.key), document, &variables).await;
        let told = &answer["errors"][0]["extensions"];
        (told["code"].as_str().unwrap_or_default().to_owned(), told["reason"].clone())
    }
}

/// An event of a person at a revision: one that can be read, or one without a name.
fn event(person: usize, revision: i64, name: Option<&str>) -> String {
    let at = BEGINNING + revision;
    let mut record = json!({ "$type": EVENT, "createdAt": "2026-01-01T00:00:00Z", "mark": format!("%_{revision}") });
    if let Some(name) = name {
        record["name"] = json!(name);
    }
    let cid = crate::support::records::cid_of(&record.to_string());
    commit(&did(9, person), at, &tid(at, 1), EVENT, "one", Some((&cid, &record)))
}
