//! The door itself: who may, how often, and what it says of itself.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use entities::sets::SourceType;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};

use super::{Bench, EVENTS, of_fields, of_web, rkey};
use crate::support::{
    database::{on_each_database, sqlite},
    records::{BEGINNING, EVENT, RSVP, cid_of, did, tid, uri},
};

#[tokio::test]
async fn who_may_not_is_told_so() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let web = bench.test.key(&[SourceType::Web], false).await;
    let (web, good) = (format!("Bearer {web}"), bench.bearer());
    let cases: [(&[(&str, &str)], u16); 6] = [
        (&[], 401),
        (&[("authorization", "Bearer nonsense")], 401),
        (&[("authorization", "Basic YTpi")], 401),
        (&[("authorization", &good), ("x-tenant-id", "elsewhere")], 403),
        (&[("authorization", &web)], 403),
        (&[("authorization", &good), ("x-tenant-id", "default")], 202),
    ];
    for (headers, expected) in cases {
        let (status, told, answer) = bench.send(Method::POST, EVENTS, headers, of_fields(1, 1).to_string()).await;
        assert_eq!(status.as_u16(), expected, "{answer}");
        assert_eq!(told.contains_key("www-authenticate"), expected == 401);
    }
    database.discard().await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let headers = [("authorization", &*bench.bearer()), ("idempotency-key", "one")];
        let send = async |item: &Value| bench.send(Method::POST, EVENTS, &headers, item.to_string()).await;
        let (_, _, first) = send(&of_fields(1, 1)).await;
        let (status, _, again) = send(&of_fields(1, 1)).await;
        // Run again it would be unchanged.
        assert_eq!((status.as_u16(), &again), (202, &first));
        let (status, _, problem) = send(&of_fields(2, 1)).await;
        assert_eq!((status.as_u16(), &problem["reason"]), (422, &"IDEMPOTENCY_KEY_REUSED".into()));
    })
    .await;
}

#[tokio::test]
async fn what_the_tables_refuse_is_a_fault_of_ours() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON source_record WHEN NEW.rkey = 'poison'
        BEGIN SELECT RAISE(ABORT, 'a secret of the tables'); END";
    Database::connect(&database.url).await.unwrap().execute_unprepared(trigger).await.unwrap();
    let (status, problem) = bench.post(EVENTS, &of_web("poison")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (500, &"INTERNAL".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("error id ") && !problem.to_string().contains("secret"));
    // It stops no other.
    let items = json!([of_web("1"), of_web("poison"), of_web("2")]);
    let (_, answer) = bench.post(&format!("{EVENTS}:batch"), &items).await;
    let results = answer["results"].as_array().unwrap();
    let outcomes: Vec<&Value> = results.iter().map(|result| &result["outcome"]).collect();
    assert_eq!(outcomes, [&json!("created"), &Value::Null, &json!("created")]);
    assert!(results[1]["status"] == 500 && !answer.to_string().contains("secret"), "{answer}");
    database.discard().await;
}

#[tokio::test]
async fn too_many_items_are_put_off() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let items = Value::Array(vec![json!({}); 1_000]);
    let authorization = [("authorization", &*bench.bearer())];
    for _ in 0..6 {
        assert_eq!(bench.post(&format!("{EVENTS}:batch"), &items).await.0, StatusCode::ACCEPTED);
    }
    let (status, headers, problem) =
        bench.send(Method::POST, EVENTS, &authorization, of_fields(1, 1).to_string()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::TOO_MANY_REQUESTS, &"RATE_LIMITED".into()));
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(Duration::from_secs(wait) <= Duration::from_secs(70) && wait > 0);
    database.discard().await;
}

/// An example of what a schema describes.
fn example(document: &Value, schema: &Value, name: &str) -> Value {
    if let Some(target) = schema["$ref"].as_str() {
        return example(document, document.pointer(target.trim_start_matches('#')).unwrap(), name);
    }
    if let Some(members) = schema["enum"].as_array() {
        return members[0].clone();
    }
    match (name, schema["type"].as_str().or(schema["type"][0].as_str()).unwrap()) {
        ("id" | "did" | "userDid", _) => did(1, 1).into(),
        ("cid" | "eventCid", _) => cid_of("x").into(),
        ("rkey", _) => rkey(1).into(),
        ("rev", _) => tid(BEGINNING, 1).into(),
        ("sourceId", _) => uri(&did(1, 1), RSVP, &rkey(1)).into(),
        ("collection", _) => Value::Null,
        ("eventUri", _) => uri(&did(1, 1), EVENT, &rkey(1)).into(),
        ("rawRecord", _) => json!({ "$type": EVENT, "name": "x", "createdAt": "2025-06-01T00:00:00Z" }),
        ("time_us", _) => BEGINNING.into(),
        (_, "object") => {
            let properties = schema["properties"].as_object().unwrap();
            properties.iter().map(|(name, schema)| (name.clone(), example(document, schema, name))).collect()
        }
        (_, "array") => json!([example(document, &schema["items"], "")]),
        (_, "integer" | "number") => json!(1),
        (_, "boolean") => true.into(),
        _ if schema["format"] == "date-time" => "2027-01-01T18:00:00Z".into(),
        _ => "text".into(),
    }
}

#[tokio::test]
async fn what_is_described_is_served() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let (status, _, document) = bench.send(Method::GET, "/openapi.json", &[], Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let place = path.replace(['{', '}'], "");
            let query =
                if operation["parameters"].to_string().contains("/sourceId") { "?sourceId=a&sourceType=b" } else { "" };
            let (status, _, problem) = bench.send(method.clone(), &format!("{place}{query}"), &[], Body::empty()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {problem}");
            let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
            let (status, answer) = bench.post(&place, &example(&document, schema, "")).await;
            assert_eq!((status, &answer["success"]), (StatusCode::ACCEPTED, &true.into()), "{path}: {answer}");
        }
    }
    database.discard().await;
}
