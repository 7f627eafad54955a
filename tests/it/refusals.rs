//! Values that don't fit the schema are refused before anything runs, so that no answer loses all its data to one of them.

use axum::{
    body::Body,
    http::{Request, header},
};
use gateway::api::http::router;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::support::{app::TestApp, database::sqlite};

struct Door(axum::Router);

impl Door {
    async fn ask(&self, query: &str, variables: Value) -> (u16, Value) {
        let request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/graphql-response+json")
            .body(Body::from(json!({ "query": query, "variables": variables }).to_string()))
            .unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_before_anything_runs() {
    let database = sqlite().await;
    let test = TestApp::open(&database).await;
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let door = Door(router(&test.app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap());
    let invalid = "GRAPHQL_VALIDATION_FAILED";
    let bad = "BAD_USER_INPUT";
    let from = "query($q: String){events(filter: {query: $q, startsAt: {from: \"soon\"}}){nodes{id}}}";
    let filter = "query($f: EventFilter){events(filter: $f){nodes{id}}}";
    let changes = "query($n: Int = 5){eventChanges(first: $n){hasMore}}";
    for (query, variables, code) in [
        ("{serviceInfo{version} events(first: 2147483648){nodes{id}}}", json!({}), invalid),
        ("query($n: Int){serviceInfo{version} events(first: $n){nodes{id}}}", json!({ "n": 2_147_483_648_u64 }), bad),
        ("query($s: String){event(by: {slug: $s}){id}}", json!({}), bad),
        ("query($s: String){event(by: {slug: $s}){id}}", json!({ "s": null }), bad),
        ("query($by: EventLookup!){event(by: $by){id}}", json!({ "by": { "slug": "a", "id": "b" } }), bad),
        ("query($a: Did){rsvps(filter: {attendees: [{did: $a}]}){nodes{id}}}", json!({}), bad),
        ("query($a: Did){rsvps(filter: {attendees: [{did: $a}]}){nodes{id}}}", json!({ "a": "alice" }), bad),
        // With a variable beside it that has no value, the library looks at neither.
        (from, json!({}), invalid),
        (filter, json!({ "f": { "startsAt": { "from": "soon" } } }), bad),
        (filter, json!({ "f": { "near": { "latitude": 1, "longitude": 2, "radiusMeters": 1.5 } } }), bad),
        (filter, json!({ "f": { "status": ["LOST"] } }), bad),
        (changes, json!({ "n": null }), bad),
        ("{eventChanges(after: 1){hasMore}}", json!({}), invalid),
        ("{serviceInfo @unknown {version}}", json!({}), invalid),
        ("{serviceInfo {__typename(a: 1)}}", json!({}), invalid),
        (r#"{events(filter: {query: "\ud83d"}){nodes{id}}}"#, json!({}), "GRAPHQL_PARSE_FAILED"),
    ] {
        let (status, answer) = door.ask(query, variables).await;
        assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (400, &json!(code)), "{query} {answer}");
        assert!(answer.get("data").is_none(), "{query} {answer}");
    }
    for (query, variables) in [
        (r#"{events(filter: {query: "\u{1F600} \ud83d\ude00"}){nodes{id}}}"#, json!({})),
        ("query($s: String){event(by: {slug: $s}){id}}", json!({ "s": "a" })),
        (filter, json!({})),
        (
            filter,
            json!({ "f": { "status": "SCHEDULED", "near": { "latitude": 1, "longitude": 2, "radiusMeters": 5 } } }),
        ),
        (changes, json!({})),
    ] {
        let (status, answer) = door.ask(query, variables).await;
        assert_eq!((status, answer.get("errors")), (200, None), "{query} {answer}");
    }
    // What only a resolver can tell takes nothing but its own field.
    let (status, answer) = door.ask("{serviceInfo{version} events(first: 0){nodes{id}}}", json!({})).await;
    assert_eq!((status, &answer["data"]["events"]), (200, &Value::Null));
    assert!(answer["data"]["serviceInfo"]["version"].is_string(), "{answer}");
    database.discard().await;
}

/// Enough searches at once cost more than one operation may.
#[tokio::test]
async fn searches_have_their_price() {
    let database = sqlite().await;
    let test = TestApp::open(&database).await;
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let door = Door(router(&test.app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap());
    let search = |number: usize| {
        let area = "{latitude: 1, longitude: 2, radiusMeters: 5}";
        let order = "{field: ATTENDEE_COUNT}";
        format!(
            "s{number}: events(filter: {{query: \"a\", near: {area}}}, orderBy: {order}){{totalCount nodes{{id slug}}}} "
        )
    };
    for (searches, status) in [(8, 200), (9, 400)] {
        let document = format!("{{{}}}", (0..searches).map(search).collect::<String>());
        let (answered, answer) = door.ask(&document, json!({})).await;
        assert_eq!(answered, status, "{answer}");
    }
    database.discard().await;
}
