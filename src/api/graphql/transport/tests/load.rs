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
    // A caller who leaves doesn't end the work, which needs its place.
    dear.abort();
    dear.await.unwrap_err();
    assert_eq!(ask(&bench, post(r#"{"query":"{dear}"}"#)).await.0, 503);
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

/// One event at a time.
fn single_file() -> Settings {
    Settings { connections: 4, ..narrow() }
}

#[tokio::test]
async fn events_of_subscriptions_wait_for_their_turn() {
    let bench = bench(single_file());
    let waiting = || bench.gate.waiting.load(Ordering::SeqCst);
    let mut socket = ready(serve(&bench).await).await;
    for id in ["a", "b"] {
        say(&mut socket, subscribe(id, "subscription{queries{slow}}")).await;
        until("the first event runs", || waiting() == 1).await;
    }
    say(&mut socket, subscribe("q", "{transport}")).await;
    assert_eq!((hear(&mut socket).await["id"].clone(), waiting()), (json!("q"), 1), "the other waits");
    hear(&mut socket).await;
    // Who leaves in the middle of an event keeps the place until its work ends.
    say(&mut socket, json!({"id": "a", "type": "complete"})).await;
    say(&mut socket, subscribe("q", "{transport}")).await;
    assert_eq!((hear(&mut socket).await["id"].clone(), waiting()), (json!("q"), 1), "the other still waits");
    hear(&mut socket).await;
    bench.gate.open.cancel();
    for _ in 0..2 {
        let event = hear(&mut socket).await;
        assert_eq!(
            (&event["id"], &event["payload"]["data"]["queries"]["slow"]),
            (&json!("b"), &json!(true)),
            "{event}"
        );
    }
    until("what was left has ended", || bench.alive.0.load(Ordering::SeqCst) == 1).await;
    // A subscription that waits for its source has no place.
    say(&mut socket, subscribe("c", "subscription{queries{slow}}")).await;
    assert_eq!(hear(&mut socket).await["id"], "c");
}

#[tokio::test]
async fn an_event_that_takes_too_long_ends_its_subscription() {
    let bench = bench(Settings { operation_timeout: Duration::from_millis(20), ..single_file() });
    for _ in 0..2 {
        let request = accepting(post(r#"{"query":"subscription{queries{slow}}"}"#), "text/event-stream");
        let (_, _, text) = send(bench.endpoint.clone(), request).await;
        assert!(text.contains("TIMEOUT") && text.ends_with("event: complete\ndata:\n\n"), "{text}");
    }
    until("nothing is left", || bench.alive.0.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn an_event_may_cost_a_tenth_of_a_query() {
    let bench = bench(Settings::default());
    assert_eq!(code(&ask(&bench, post(r#"{"query":"subscription{queries{dear}}"}"#)).await.1), "QUERY_TOO_COMPLEX");
    let cheap = r#"{"query":"subscription{queries{slow}}"}"#;
    assert_eq!(
        code(&ask(&bench, post(cheap)).await.1),
        "SUBSCRIPTION_NEEDS_STREAM",
        "the guard has nothing against it"
    );
}
