//! GraphQL over HTTP and event streams.

use std::sync::atomic::Ordering;

use async_graphql::Executor;
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use url::form_urlencoded;

use super::{Bench, Settings, bench, until};
use crate::api::graphql::transport::{Endpoint, Origins, PATH, router};

pub(super) const RESPONSE: &str = "application/graphql-response+json";
const JSON: &str = "application/json";

/// A POST of this body, with the accept header that a test adds.
pub(super) fn post(body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(PATH).header(header::CONTENT_TYPE, JSON);
    request.body(body.into()).unwrap()
}

fn get(parameters: &[(&str, &str)]) -> Request<Body> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    Request::get(format!("{PATH}?{query}")).body(Body::empty()).unwrap()
}

pub(super) fn with(mut request: Request<Body>, name: HeaderName, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) fn accepting(request: Request<Body>, media: &str) -> Request<Body> {
    with(request, header::ACCEPT, media)
}

/// Status, headers and text of the answer.
pub(super) async fn send<E: Executor>(
    endpoint: Endpoint<E>,
    request: Request<Body>,
) -> (StatusCode, HeaderMap, String) {
    let response = router(endpoint, |methods| methods).oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// Status and JSON, after the checks that hold for every JSON answer.
pub(super) async fn ask(bench: &Bench, request: Request<Body>) -> (u16, Value) {
    let (status, headers, body) = send(bench.endpoint.clone(), request).await;
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let media = headers[header::CONTENT_TYPE].to_str().unwrap();
    assert!(media == format!("{JSON}; charset=utf-8") || media == format!("{RESPONSE}; charset=utf-8"), "{media}");
    let body: Value = serde_json::from_str(&body).unwrap();
    for error in body["errors"].as_array().into_iter().flatten() {
        assert!(error["extensions"]["code"].is_string(), "{error}");
    }
    (status.as_u16(), body)
}

pub(super) fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn queries_are_answered_by_post_and_get() {
    let bench = bench(Settings::default());
    let whole = json!({"query": "query A($n:String!){hello(name:$n)} query B{transport}", "operationName": "A",
        "variables": {"n": "Zoë"}, "extensions": {"a": [1]}, "unknown": 1});
    assert_eq!(ask(&bench, post(whole.to_string())).await, (200, json!({"data": {"hello": "hello Zoë0"}})));
    let nulls = json!({"query": "{transport}", "operationName": null, "variables": null, "extensions": null});
    assert_eq!(ask(&bench, post(nulls.to_string())).await, (200, json!({"data": {"transport": "Http"}})));
    let request =
        get(&[("query", "query A($n:String!){hello(name:$n)}"), ("variables", r#"{"n":"x"}"#), ("operationName", "A")]);
    assert_eq!(ask(&bench, request).await, (200, json!({"data": {"hello": "hello x0"}})));
    let request = get(&[("query", "{transport}"), ("operationName", ""), ("variables", ""), ("extensions", "{}")]);
    assert_eq!(ask(&bench, request).await.0, 200);
    let typed = with(post(r#"{"query":"{transport}"}"#), header::CONTENT_TYPE, "Application/JSON; charset=\"UTF-8\"");
    assert_eq!(ask(&bench, typed).await.0, 200);
}

/// Clients that speak HTTP/2 offer it with their first request, also where it is not spoken.
#[tokio::test]
async fn offers_of_other_protocols_are_ignored() {
    let bench = bench(Settings::default());
    for (offer, status) in [("h2c", 200), ("TLS/1.0, h2c", 200), ("h2c, WebSocket", 405), ("websocket", 405)] {
        let request = with(post(r#"{"query":"{transport}"}"#), header::CONNECTION, "Upgrade, HTTP2-Settings");
        let (answered, _, body) = send(bench.endpoint.clone(), with(request, header::UPGRADE, offer)).await;
        assert_eq!(answered.as_u16(), status, "{offer} {body}");
    }
}

#[tokio::test]
async fn the_media_type_is_negotiated() {
    let bench = bench(Settings::default());
    for (accept, media) in [(RESPONSE, RESPONSE), (JSON, JSON), ("*/*", JSON), ("text/html, */*;q=0.1", JSON)] {
        let (status, headers, _) =
            send(bench.endpoint.clone(), accepting(post(r#"{"query":"{transport}"}"#), accept)).await;
        assert_eq!(
            (status, headers[header::CONTENT_TYPE].to_str().unwrap()),
            (StatusCode::OK, &*format!("{media}; charset=utf-8"))
        );
    }
    let (status, body) = ask(&bench, accepting(post(r#"{"query":"{transport}"}"#), "text/html")).await;
    assert_eq!((status, code(&body)), (406, "NOT_ACCEPTABLE"));
}

/// Refused before execution: 400 where the media type can say so, 200 where it can't, `data` absent in both.
#[tokio::test]
async fn request_errors_have_no_data() {
    let bench = bench(Settings::default());
    for (query, expected) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{unknown}", "GRAPHQL_VALIDATION_FAILED"),
        ("{hello(name:{})}", "GRAPHQL_VALIDATION_FAILED"),
        ("{...a} fragment a on Query{...a}", "GRAPHQL_VALIDATION_FAILED"),
        ("query($n:String!){hello(name:$n)}", "BAD_USER_INPUT"),
        ("{hello(times:2147483648)}", "GRAPHQL_VALIDATION_FAILED"),
        ("{hello @unknown}", "GRAPHQL_VALIDATION_FAILED"),
        ("{__typename(a:1)}", "GRAPHQL_VALIDATION_FAILED"),
        ("query A{hello} query B{hello}", "OPERATION_NOT_FOUND"),
        (&format!("{}hello{}", "{query".repeat(20), "}".repeat(20)), "QUERY_TOO_DEEP"),
        (&format!("{{hello(name:{}1{})}}", "[".repeat(2_000), "]".repeat(2_000)), "QUERY_TOO_DEEP"),
        (&format!("{{{}}}", "hello ".repeat(30)), "QUERY_TOO_COMPLEX"),
    ] {
        let body = json!({"query": query}).to_string();
        for (media, status) in [(RESPONSE, 400), (JSON, 200)] {
            let (answered, answer) = ask(&bench, accepting(post(body.clone()), media)).await;
            assert_eq!((answered, code(&answer)), (status, expected), "{query:.60} {answer}");
            assert!(answer.get("data").is_none(), "{answer}");
        }
    }
    let many = format!("{{{}}}", (0..15).map(|n| format!("unknown{n}")).collect::<Vec<_>>().join(" "));
    let (_, answer) = ask(&bench, post(json!({"query": many}).to_string())).await;
    assert_eq!(answer["errors"].as_array().unwrap().len(), 10, "errors listed");
    let long = json!({"query": format!("{{hello(times:\"{}\")}}", "x".repeat(5_000))}).to_string();
    let (_, answer) = ask(&bench, post(long)).await;
    assert!(answer["errors"][0]["message"].as_str().unwrap().chars().count() <= 201, "{answer}");
}

#[tokio::test]
async fn the_statuses_of_the_newest_draft_are_a_switch() {
    let bench = bench(Settings { draft_statuses: true, ..Settings::default() });
    for (query, media, status) in [
        ("{", RESPONSE, 400),
        ("{unknown}", RESPONSE, 422),
        ("{coded transport}", RESPONSE, 294),
        ("{transport}", RESPONSE, 200),
        ("{unknown}", JSON, 200),
        ("{coded}", JSON, 200),
    ] {
        assert_eq!(
            ask(&bench, accepting(post(json!({"query": query}).to_string()), media)).await.0,
            status,
            "{query} {media}"
        );
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_whatever_they_accept() {
    let bench = bench(Settings::default());
    let ok = "{transport}";
    let mut bodies =
        vec![String::new(), "{".into(), "1".into(), r#""{transport}""#.into(), "{}".into(), r#"{"query":""}"#.into()];
    bodies.push(json!([{"query": ok}]).to_string());
    bodies.push(json!({"query": null}).to_string());
    for wrong in [json!(1), json!(true), json!([]), json!({})] {
        bodies.push(json!({"query": wrong}).to_string());
        bodies.push(json!({"query": ok, "operationName": wrong}).to_string());
    }
    for wrong in [json!("{}"), json!(0), json!(false), json!([])] {
        bodies.push(json!({"query": ok, "variables": wrong}).to_string());
        bodies.push(json!({"query": ok, "extensions": wrong}).to_string());
    }
    for body in bodies {
        for media in [RESPONSE, JSON] {
            let (status, answer) = ask(&bench, accepting(post(body.clone()), media)).await;
            assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT"), "{body}");
            assert!(answer.get("data").is_none());
        }
    }
    for parameters in [
        vec![("operationName", "A")],
        vec![("query", ok), ("variables", "[]")],
        vec![("query", ok), ("variables", "{")],
        vec![("query", ok), ("extensions", "1")],
        vec![("query", ok), ("query", ok)],
    ] {
        assert_eq!(ask(&bench, get(&parameters)).await.0, 400, "{parameters:?}");
    }
    let nested = format!(r#"{{"query":"{ok}","variables":{{"a":{}1{}}}}}"#, "[".repeat(70), "]".repeat(70));
    assert_eq!(code(&ask(&bench, post(nested)).await.1), "QUERY_TOO_DEEP");
    let abyss = format!(r#"{{"query":"{ok}","variables":{{"a":{}"#, "[".repeat(100_000));
    assert_eq!(ask(&bench, post(abyss)).await.0, 400);
    let wide = json!({"query": ok, "variables": {"a": vec![0; 10_001]}}).to_string();
    assert_eq!(code(&ask(&bench, post(wide)).await.1), "QUERY_TOO_LARGE");
}

/// Foreign pages may send forms and plain text without asking: they must not reach a mutation.
#[tokio::test]
async fn only_json_bodies_are_read() {
    let bench = bench(Settings::default());
    let body = r#"{"query":"mutation{write}"}"#;
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application/graphql",
        RESPONSE,
        "application/json; charset=latin1",
        "",
        "application/jsonx",
    ] {
        let (status, answer) = ask(&bench, with(post(body), header::CONTENT_TYPE, media)).await;
        assert_eq!((status, code(&answer)), (415, "UNSUPPORTED_MEDIA_TYPE"), "{media}");
    }
    let mut untyped = post(body);
    untyped.headers_mut().remove(header::CONTENT_TYPE);
    assert_eq!(ask(&bench, untyped).await.0, 415);
    assert_eq!(bench.writes.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn mutations_need_post() {
    let bench = bench(Settings::default());
    for media in [RESPONSE, JSON, "text/event-stream"] {
        let request = accepting(get(&[("query", "mutation{write}")]), media);
        let (status, headers, _) = send(bench.endpoint.clone(), request).await;
        assert_eq!((status.as_u16(), headers[header::ALLOW].to_str().unwrap()), (405, "POST"), "{media}");
    }
    let mut head = get(&[("query", "mutation{write}")]);
    *head.method_mut() = Method::HEAD;
    assert_eq!(send(bench.endpoint.clone(), head).await.0, 405);
    assert_eq!(bench.writes.0.load(Ordering::SeqCst), 0);
    assert_eq!(ask(&bench, post(r#"{"query":"mutation{write}"}"#)).await.1, json!({"data": {"write": 1}}));
    let put = Request::put(PATH).body(Body::empty()).unwrap();
    assert_eq!(send(bench.endpoint.clone(), put).await.0, 405);
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let bench = bench(Settings::default());
    let body = json!({"query": "{transport}", "extensions": {"a": "x".repeat(262_144)}}).to_string();
    let (status, answer) = ask(&bench, post(body)).await;
    assert_eq!((status, code(&answer)), (413, "QUERY_TOO_LARGE"));
}

#[tokio::test]
async fn errors_of_fields_keep_the_data_and_hide_faults() {
    let bench = bench(Settings::default());
    let (status, answer) = ask(&bench, accepting(post(r#"{"query":"{coded raw transport}"}"#), RESPONSE)).await;
    assert_eq!((status, &answer["data"]), (200, &json!({"coded": null, "raw": null, "transport": "Http"})));
    let text = answer.to_string();
    assert!(text.contains("NOT_FOUND") && text.contains("INTERNAL") && !text.contains("wallet"), "{text}");
    let (status, answer) = ask(&bench, accepting(post(r#"{"query":"{allFail}"}"#), RESPONSE)).await;
    assert_eq!((status, answer.get("data")), (200, Some(&Value::Null)), "executed, so data is there");
    let (status, answer) = ask(&bench, post(r#"{"query":"{boom}"}"#)).await;
    assert_eq!((status, code(&answer)), (500, "INTERNAL"));
    assert!(answer["errors"][0]["extensions"]["errorId"].is_string() && !answer.to_string().contains("secret"));
}

fn events(text: &str) -> Vec<(&str, &str)> {
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    frames.map(|frame| frame.strip_prefix("event: ").unwrap().split_once("\ndata:").unwrap()).collect()
}

#[tokio::test]
async fn event_streams_give_each_result_and_an_end() {
    let bench = bench(Settings::default());
    let subscription = json!({"query": "subscription{count(to:2)}"}).to_string();
    let (status, headers, text) =
        send(bench.endpoint.clone(), accepting(post(subscription.clone()), "text/event-stream")).await;
    assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, "text/event-stream"));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let expected = [("next", r#" {"data":{"count":0}}"#), ("next", r#" {"data":{"count":1}}"#), ("complete", "")];
    assert_eq!(events(&text), expected);
    for (query, first) in [
        ("{transport}", r#" {"data":{"transport":"Events"}}"#),
        ("{unknown}", "GRAPHQL_VALIDATION_FAILED"),
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription{unknown}", "GRAPHQL_VALIDATION_FAILED"),
    ] {
        let (status, _, text) =
            send(bench.endpoint.clone(), accepting(get(&[("query", query)]), "text/event-stream")).await;
        let events = events(&text);
        assert_eq!((status, events.len()), (StatusCode::OK, 2), "{text}");
        assert!(events[0].0 == "next" && events[0].1.contains(first) && events[1] == ("complete", ""), "{text}");
    }
    let (_, _, text) =
        send(bench.endpoint.clone(), accepting(get(&[("query", "subscription{burst}")]), "text/event-stream")).await;
    assert!(events(&text).len() == 4 && text.contains("INTERNAL") && !text.contains("secret"), "{text}");
    let (status, answer) = ask(&bench, post(subscription)).await;
    assert_eq!((status, code(&answer)), (400, "SUBSCRIPTION_NEEDS_STREAM"));
}

#[tokio::test]
async fn event_streams_are_bounded_and_end_with_reader_and_server() {
    let bench = bench(Settings { max_sockets: 1, ..Settings::default() });
    let request = || accepting(get(&[("query", "subscription{never}")]), "text/event-stream");
    let alive = || bench.alive.0.load(Ordering::SeqCst);
    let first = router(bench.endpoint.clone(), |methods| methods).oneshot(request()).await.unwrap();
    until("the stream starts", || alive() == 1).await;
    assert_eq!(send(bench.endpoint.clone(), request()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    until("the stream ends with its reader", || alive() == 0).await;
    until("its place is free", || bench.endpoint.inner.streams.available_permits() == 1).await;
    let second = tokio::spawn(send(bench.endpoint.clone(), request()));
    until("the stream starts", || alive() == 1).await;
    bench.shutdown.cancel();
    assert_eq!(second.await.unwrap().2, "", "ends without complete");
}

#[tokio::test]
async fn a_reader_of_events_who_does_not_read_is_cut_off() {
    let write_timeout = std::time::Duration::from_millis(50);
    let bench = bench(Settings { write_timeout, ..Settings::default() });
    let request = accepting(get(&[("query", "subscription{flood}")]), "text/event-stream");
    let unread = router(bench.endpoint.clone(), |methods| methods).oneshot(request).await.unwrap();
    until("the operation ends", || bench.endpoint.inner.streams.available_permits() == Settings::default().max_sockets)
        .await;
    assert_eq!(bench.alive.0.load(Ordering::SeqCst), 0);
    drop(unread);
}

#[tokio::test]
async fn pages_of_foreign_origins_get_no_stream_and_no_permission() {
    let origins = Origins { allowed: vec!["https://app.example".into()] };
    let bench = bench(Settings { origins, ..Settings::default() });
    for (origin, may) in [("https://app.example", true), ("https://evil.example", false)] {
        let request = accepting(get(&[("query", "{transport}")]), "text/event-stream");
        let (status, headers, _) = send(bench.endpoint.clone(), with(request, header::ORIGIN, origin)).await;
        assert_eq!(status, if may { StatusCode::OK } else { StatusCode::FORBIDDEN });
        assert_eq!(headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), may);
        let preflight = Request::options(PATH).header(header::ORIGIN, origin);
        let preflight = preflight.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST").body(Body::empty()).unwrap();
        let (_, headers, _) = send(bench.endpoint.clone(), preflight).await;
        assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_some_and(|allowed| allowed == origin), may);
    }
}

#[tokio::test]
async fn who_is_not_known_is_told_before_anything_runs() {
    let bench = bench(Settings::default());
    let stolen = |request| with(request, HeaderName::from_static("token"), "stolen");
    for media in [RESPONSE, JSON] {
        let request = stolen(accepting(post(r#"{"query":"mutation{write}"}"#), media));
        let (status, headers, body) = send(bench.endpoint.clone(), request).await;
        assert_eq!((status, headers[header::WWW_AUTHENTICATE].to_str().unwrap()), (StatusCode::UNAUTHORIZED, "Bearer"));
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code(&answer), answer.get("data")), ("UNAUTHENTICATED", None), "{answer}");
    }
    assert_eq!(bench.writes.0.load(Ordering::SeqCst), 0);
    let request = stolen(accepting(get(&[("query", "subscription{never}")]), "text/event-stream"));
    let (_, _, text) = send(bench.endpoint.clone(), request).await;
    assert!(text.contains("UNAUTHENTICATED") && events(&text).len() == 2, "{text}");
}

#[tokio::test]
async fn an_event_stream_ends_when_its_reader_is_known_no_more() {
    let bench = bench(Settings::default());
    let request = accepting(get(&[("query", "subscription{never}")]), "text/event-stream");
    let (_, _, text) = send(bench.endpoint.clone(), with(request, HeaderName::from_static("token"), "short")).await;
    let events = events(&text);
    assert!(events[0].1.contains("UNAUTHENTICATED") && events[1] == ("complete", ""), "{text}");
    until("its operation ends", || bench.alive.0.load(Ordering::SeqCst) == 0).await;
}
