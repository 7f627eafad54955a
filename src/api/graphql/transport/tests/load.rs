//! More operations than there are places, and operations that take too long.

use std::{sync::atomic::Ordering, time::Duration};

use axum::http::{StatusCode, header};
use serde_json::json;

use super::{
    Bench, Settings, bench,
    http::{RESPONSE, accepting, ask, code, post, send},
    socket::{hear, ready, say, serve, subscribe},
    until,
};

/// Two places: one for cheap operations, one for expensive ones.
fn narrow() -> Settings {
    Settings { max_operations: 2, queue_timeout: Duration::from_millis(20), ..Settings::default() }
}

/// Starts an operation over HTTP that holds its place until the gate opens.
async fn occupy(bench: &Bench, query: &str) -> tokio::task::JoinHandle<(StatusCode, String)> {
    let before = bench.gate.waiting.load(Ordering::SeqCst);
    let request = post(json!({ "query": query }).to_string());
    let endpoint = bench.endpoint.clone();
    let running = tokio::spawn(async move {
        let (status, _, body) = send(endpoint, request).await;
        (status, body)
    });
    until("it runs", || bench.gate.waiting.load(Ordering::SeqCst) > before).await;
    running
}

#[tokio::test]
async fn who_finds_no_place_is_told_to_come_again() {
    let bench = bench(narrow());
    let cheap = occupy(&bench, "{slow}").await;
    for media in [RESPONSE, "application/json"] {
        let request = accepting(post(r#"{"query":"{transport}"}"#), media);
        let (status, headers, body) = send(bench.endpoint.clone(), request).await;
        let retry_after = headers[header::RETRY_AFTER].to_str().unwrap();
        assert_eq!((status, retry_after), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        assert!(body.contains("SERVICE_UNAVAILABLE") && !body.contains("data"), "{body}");
    }
    let mut socket = ready(serve(&bench).await).await;
    say(&mut socket, subscribe("q", "{transport}")).await;
    let refused = hear(&mut socket).await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("q")));
    assert_eq!(refused["payload"][0]["extensions"]["code"], "SERVICE_UNAVAILABLE");
    // What the guard refuses, and subscriptions, need no place.
    assert_eq!(code(&ask(&bench, post(r#"{"query":"{"}"#)).await.1), "GRAPHQL_PARSE_FAILED");
    say(&mut socket, subscribe("s", "subscription{count(to:1)}")).await;
    assert_eq!(hear(&mut socket).await["payload"]["data"]["count"], 0);

    bench.gate.open.cancel();
    assert_eq!(cheap.await.unwrap().1, r#"{"data":{"slow":true}}"#);
    assert_eq!(ask(&bench, post(r#"{"query":"{transport}"}"#)).await.0, 200);
}

#[tokio::test]
async fn expensive_operations_do_not_take_the_places_of_cheap_ones() {
    let bench = bench(narrow());
    let dear = occupy(&bench, "{dear}").await;
    assert_eq!(ask(&bench, post(r#"{"query":"{dear}"}"#)).await.0, 503);
    assert_eq!(ask(&bench, post(r#"{"query":"{transport}"}"#)).await.0, 200);
    // A caller who leaves frees its place.
    dear.abort();
    dear.await.unwrap_err();
    bench.gate.open.cancel();
    assert_eq!(ask(&bench, post(r#"{"query":"{dear}"}"#)).await.0, 200);
}

#[tokio::test]
async fn an_operation_that_takes_too_long_is_stopped() {
    let bench = bench(Settings { operation_timeout: Duration::from_millis(20), ..narrow() });
    for media in [RESPONSE, "application/json"] {
        let (status, answer) = ask(&bench, accepting(post(r#"{"query":"{transport slow}"}"#), media)).await;
        assert_eq!((status, code(&answer)), (504, "TIMEOUT"), "{answer}");
        assert!(answer.get("data").is_none(), "{answer}");
    }
    assert_eq!(ask(&bench, post(r#"{"query":"{transport}"}"#)).await.0, 200, "its place is free");
}
