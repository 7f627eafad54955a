//! The door itself: who may, how often, and what it says of itself.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use entities::{service_key, sets::SourceType};
use futures_util::future::join_all;
use gateway::infra::kv::{Key, Kind};
use sea_orm::{ConnectionTrait, Database, EntityTrait};
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
async fn a_repeated_delete_is_answered_as_before() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let place = format!("{EVENTS}?sourceType=web&sourceId=1");
        let send = async |place: &str| {
            let headers = [("authorization", &*bench.bearer()), ("idempotency-key", "gone")];
            bench.send(Method::DELETE, place, &headers, Body::empty()).await
        };
        // What failed is done again.
        assert_eq!(send(&place).await.0, StatusCode::NOT_FOUND);
        bench.bring(EVENTS, &of_web("1")).await;
        for _ in 0..2 {
            let (status, _, answer) = send(&place).await;
            assert_eq!((status, &answer["outcome"]), (StatusCode::ACCEPTED, &"deleted".into()), "{answer}");
        }
        let (status, _, problem) = send(&format!("{EVENTS}?sourceType=web&sourceId=2")).await;
        assert_eq!((status.as_u16(), &problem["reason"]), (422, &"IDEMPOTENCY_KEY_REUSED".into()));
        assert_eq!(bench.delete(&place).await.0, StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_with_one_key_at_once_one_is_done() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let headers = [("authorization", &*bench.bearer()), ("idempotency-key", "at once")];
        let items = Value::Array((0..50).map(|number| of_web(&number.to_string())).collect());
        let place = format!("{EVENTS}:batch");
        let send = || bench.send(Method::POST, &place, &headers, items.to_string());
        let answers = join_all((0..8).map(|_| send())).await;
        let (status, _, first) = send().await;
        assert_eq!((status, &first["results"][0]["outcome"]), (StatusCode::ACCEPTED, &"created".into()));
        for (status, headers, answer) in answers {
            // It was done, or is being done.
            if status == StatusCode::ACCEPTED {
                assert_eq!(answer, first);
            } else {
                let expected = (StatusCode::CONFLICT, &json!("IDEMPOTENCY_KEY_IN_USE"), &json!(1));
                assert_eq!((status, &answer["reason"], &answer["retryAfter"]), expected, "{answer}");
                assert_eq!(headers["retry-after"], "1");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_breaks_off_is_told_what_came_of_it() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let headers = [("authorization", &*bench.bearer()), ("idempotency-key", "broken off")];
        let send = || bench.send(Method::POST, EVENTS, &headers, of_web("1").to_string());
        let shown = service_key::Entity::find().one(bench.test.app.db.read()).await.unwrap().unwrap();
        let kept = Key::new(Kind::Answer, &format!("{} {} broken off", shown.prefix, bench.test.app.tenant.id()));
        // The caller goes away as soon as the work has begun.
        let mut broken = Box::pin(send());
        while bench.test.app.kv.get(&kept).await.unwrap().is_none() {
            tokio::select! {
                _ = &mut broken => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(broken);
        loop {
            let (status, _, answer) = send().await;
            if status == StatusCode::CONFLICT {
                tokio::task::yield_now().await;
                continue;
            }
            assert_eq!((status, &answer["outcome"]), (StatusCode::ACCEPTED, &"created".into()), "{answer}");
            break;
        }
    })
    .await;
}

#[tokio::test]
async fn what_an_address_lacks_is_named_to_who_may() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let record = format!("{EVENTS}/atproto");
    let (author, key) = (did(1, 1), rkey(1));
    for (place, field, reason) in [
        (format!("{EVENTS}?sourceType=web&sourceId=a&sourceId=b"), "sourceId", "FIELD_REPEATED"),
        (format!("{EVENTS}?sourceType=web&sourceType=web&sourceId=b"), "sourceType", "FIELD_REPEATED"),
        (format!("{EVENTS}?sourceType=web"), "sourceId", "FIELD_MISSING"),
        (format!("{EVENTS}?sourceId=a"), "sourceType", "FIELD_MISSING"),
        (format!("{EVENTS}?sourceType=web&sourceId=%FF"), "sourceId", "FIELD_MALFORMED"),
        (format!("{EVENTS}?sourceType=radio&sourceId=a"), "sourceType", "SOURCE_TYPE_UNKNOWN"),
        (format!("{record}/%FF/{EVENT}/{key}"), "did", "FIELD_MALFORMED"),
        (format!("{record}/{author}/{EVENT}/%FF"), "rkey", "FIELD_MALFORMED"),
        (format!("{record}/alice/{EVENT}/{key}"), "did", "DID_MALFORMED"),
        (format!("{record}/{author}/events/{key}"), "collection", "FIELD_MALFORMED"),
        (format!("{record}/{author}/{EVENT}/.."), "rkey", "FIELD_MALFORMED"),
    ] {
        let (status, headers, problem) = bench.send(Method::DELETE, &place, &[], Body::empty()).await;
        assert_eq!((status.as_u16(), &problem["code"]), (401, &"UNAUTHENTICATED".into()), "{place}");
        assert_eq!(headers["content-type"], "application/problem+json");
        let (status, problem) = bench.delete(&place).await;
        let expected = (422, &json!(field), &json!(reason));
        assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), expected, "{place}: {problem}");
    }
    database.discard().await;
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
            assert_described(&document, &json!({ "$ref": "#/components/schemas/Problem" }), &problem);
            let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
            let (status, answer) = bench.post(&place, &example(&document, schema, "")).await;
            assert_eq!((status, &answer["success"]), (StatusCode::ACCEPTED, &true.into()), "{path}: {answer}");
            let schema = operation.pointer("/responses/202/content/application~1json/schema").unwrap();
            assert_described(&document, schema, &answer);
            if path.ends_with(":batch") {
                let (_, answer) = bench.post(&place, &json!([7])).await;
                assert_eq!((&answer["success"], &answer["results"][0]["success"]), (&false.into(), &false.into()));
                assert_described(&document, schema, &answer);
            }
        }
    }
    let gone = bench.delete(&format!("{EVENTS}/atproto/{}/{EVENT}/{}", did(1, 1), rkey(1))).await.1;
    assert_described(&document, &json!({ "$ref": "#/components/schemas/Deleted" }), &gone);
    database.discard().await;
}

/// What an answer has is described, and what is promised is there.
fn assert_described(document: &Value, schema: &Value, answer: &Value) {
    let problems = misfits(document, schema, answer);
    assert!(problems.is_empty(), "{problems:?} in {answer}");
}

fn misfits(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let all = |schema: &Value| misfits(document, schema, value);
    if let Some(target) = schema["$ref"].as_str() {
        return all(document.pointer(target.trim_start_matches('#')).unwrap());
    }
    if let Some(some) = schema["anyOf"].as_array() {
        return some.iter().map(all).min_by_key(Vec::len).unwrap();
    }
    let mut wrong = Vec::new();
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        wrong.extend(values.iter().flat_map(|value| misfits(document, items, value)));
    }
    if schema.get("const").is_some_and(|expected| expected != value) {
        wrong.push(format!("{value} is not {}", schema["const"]));
    }
    let Some(fields) = value.as_object() else { return wrong };
    // Where several schemas describe one object, its fields are those of all of them.
    let parts: Vec<&Value> = schema["allOf"].as_array().map_or_else(|| vec![schema], |all| all.iter().collect());
    let parts = parts.into_iter().map(|part| match part["$ref"].as_str() {
        Some(target) => document.pointer(target.trim_start_matches('#')).unwrap(),
        None => part,
    });
    let parts: Vec<&Value> = parts.collect();
    for name in parts.iter().filter_map(|part| part["required"].as_array()).flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{name} is missing"));
        }
    }
    for (name, value) in fields {
        match parts.iter().find_map(|part| part["properties"].get(name)) {
            Some(schema) => wrong.extend(misfits(document, schema, value)),
            None => wrong.push(format!("{name} is not described")),
        }
    }
    wrong
}
