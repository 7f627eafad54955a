//! The integration API, as the programs that use it meet it.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use entities::{event, event_attendee, sets::SourceType, source_record};
use gateway::{
    api::http::router,
    domain::key::{self, SOURCES},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::support::{
    app::TestApp,
    database::{TestDb, on_each_database, sqlite},
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

const EVENTS: &str = "/api/integration/events";
const RSVPS: &str = "/api/integration/rsvps";

/// The program, its doors, and a key for every source.
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
        let key = key::create(&test.app, "default", "a processor", &SOURCES).await.unwrap();
        Self { test, doors, key }
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

    async fn events(&self) -> Vec<event::Model> {
        event::Entity::find().all(self.test.app.db.read()).await.unwrap()
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

#[tokio::test]
async fn an_event_is_brought_changed_and_taken_away() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let made = bench.bring(EVENTS, &of_fields(1, 10)).await;
        assert_eq!(made["outcome"], "created");
        let mut changed = of_fields(1, 20);
        changed["name"] = "Renamed".into();
        changed["description"] = "What it is about".into();
        changed["startDate"] = Value::Null;
        let updated = bench.bring(EVENTS, &changed).await;
        assert_eq!((&updated["outcome"], &updated["slug"]), (&"updated".into(), &made["slug"]));
        // What is older than what is known changes nothing.
        assert_eq!(bench.bring(EVENTS, &of_fields(1, 15)).await["outcome"], "unchanged");
        let events = bench.events().await;
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].name.as_str(), events[0].slug.as_str()), ("Renamed", made["slug"].as_str().unwrap()));
        // What was absent has stayed.
        assert!(events[0].starts_at.is_some());

        let (status, gone) = bench.delete(&format!("{EVENTS}/atproto/{}/{EVENT}/{}", did(1, 1), rkey(1))).await;
        assert_eq!((status, &gone["outcome"]), (StatusCode::ACCEPTED, &"deleted".into()), "{gone}");
        assert!(bench.events().await.is_empty());
        let record = uri(&did(1, 1), EVENT, &rkey(1));
        let (status, problem) = bench.delete(&format!("{EVENTS}?sourceId={record}&sourceType=bluesky")).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &"NOT_FOUND".into()));
    })
    .await;
}

#[tokio::test]
async fn the_record_itself_takes_the_place_of_its_fields() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.bring(EVENTS, &of_fields(1, 10)).await;
        let record = json!({
            "$type": EVENT, "name": "Event 1", "createdAt": "2025-06-01T00:00:00Z", "startsAt": "2027-01-01T18:00:00Z",
        });
        let cid = cid_of(&record.to_string());
        let rev = tid(BEGINNING + 10, 1);
        // By a stream, at the very revision.
        let line = commit(&did(1, 1), BEGINNING, &rev, EVENT, &rkey(1), Some((&cid, &record)));
        bench.test.submit(&[line]).await;
        let held = source_record::Entity::find().one(bench.test.app.db.read()).await.unwrap().unwrap();
        assert_eq!((held.cid.as_ref(), held.record), (Some(&cid), Some(record.to_string())));
        assert_eq!(bench.events().await[0].record_cid.as_ref(), Some(&cid));

        // And the other way round: who brings the same version later brings nothing.
        let mut same = of_fields(1, 30);
        same["source"]["metadata"]["cid"] = cid.clone().into();
        same["source"]["rawRecord"] = record;
        assert_eq!(bench.bring(EVENTS, &same).await["outcome"], "unchanged");
        same["source"]["metadata"]["cid"] = cid_of("another").into();
        same["source"]["rawRecord"]["name"] = "Verbatim".into();
        assert_eq!(bench.bring(EVENTS, &same).await["outcome"], "updated");
        assert_eq!(bench.events().await[0].name, "Verbatim");
    })
    .await;
}

#[tokio::test]
async fn an_answer_waits_for_its_event() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let early = bench.bring(RSVPS, &answer_to(1, 5, "going")).await;
        assert_eq!((&early["outcome"], &early["attendeeId"]), (&"waiting".into(), &Value::Null));
        bench.bring(EVENTS, &of_fields(1, 10)).await;
        assert_eq!(bench.events().await[0].confirmed_count, 1);
        let later = bench.bring(RSVPS, &answer_to(1, 20, "maybe")).await;
        assert_eq!(later["outcome"], "updated");
        assert!(later["attendeeId"].is_string());
        assert_eq!((bench.events().await[0].confirmed_count, bench.events().await[0].maybe_count), (0, 1));
        // Without a key of its own there is one answer of a person to an event all the same.
        let mut plain = answer_to(1, 30, "notgoing");
        plain["metadata"].as_object_mut().unwrap().remove("rkey");
        bench.bring(RSVPS, &plain).await;
        let answers = event_attendee::Entity::find().all(bench.test.app.db.read()).await.unwrap();
        assert_eq!(answers.len(), 1);
        // Nobody loses all answers by one delete, and the one that is left counts.
        let (status, problem) = bench.delete(&format!("{RSVPS}?sourceType=bluesky&sourceId={}", did(1, 2))).await;
        assert_eq!((status, &problem["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &"SOURCE_ID_MALFORMED".into()));
        assert_eq!(bench.events().await[0].cancelled_count, 1);
        let newest = answers[0].record_uri.as_deref().unwrap();
        let (status, gone) = bench.delete(&format!("{RSVPS}?sourceType=bluesky&sourceId={newest}")).await;
        assert_eq!((status, &gone["outcome"]), (StatusCode::ACCEPTED, &"deleted".into()), "{gone}");
        assert_eq!((bench.events().await[0].maybe_count, bench.events().await[0].cancelled_count), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn every_item_of_a_batch_has_its_own_outcome() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let mut renamed = of_fields(1, 20);
        renamed["description"] = "later".into();
        let items = json!([of_fields(1, 10), { "name": "no source" }, 7, renamed, of_fields(2, 10)]);
        let (status, answer) = bench.post(&format!("{EVENTS}:batch"), &items).await;
        assert_eq!((status, &answer["success"]), (StatusCode::ACCEPTED, &false.into()), "{answer}");
        let results = answer["results"].as_array().unwrap();
        let of = |name: &str| results.iter().map(|result| result[name].as_str().unwrap_or("-")).collect::<Vec<_>>();
        assert_eq!(of("outcome"), ["created", "-", "-", "updated", "created"]);
        assert_eq!(of("field"), ["-", "source", "item", "-", "-"]);
        let first = bench.events().await.into_iter().find(|event| event.name == "Event 1").unwrap();
        assert!(first.starts_at.is_some() && first.description.is_some());

        let lines = format!("{}\n\nnonsense\n{}\n", of_fields(3, 10), of_fields(2, 10));
        let kind = [("authorization", &*bench.bearer()), ("content-type", "application/x-ndjson")];
        let (status, _, answer) = bench.send(Method::POST, &format!("{EVENTS}:batch"), &kind, lines).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        let outcomes: Vec<&Value> =
            answer["results"].as_array().unwrap().iter().map(|result| &result["outcome"]).collect();
        assert_eq!(outcomes, [&json!("created"), &Value::Null, &json!("unchanged")]);

        for (items, reason) in [(0, "BATCH_SIZE_OUT_OF_RANGE"), (1_001, "BATCH_SIZE_OUT_OF_RANGE")] {
            let items = Value::Array(vec![json!(1); items]);
            let (status, problem) = bench.post(&format!("{EVENTS}:batch"), &items).await;
            assert_eq!((status, &problem["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &reason.into()));
        }
        let (_, _, large) =
            bench.send(Method::POST, &format!("{EVENTS}:batch"), &kind[..1], " ".repeat((4 << 20) + 1)).await;
        assert_eq!(large["status"], 413, "{large}");
    })
    .await;
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let web = key::create(&bench.test.app, "default", "a scraper", &[SourceType::Web]).await.unwrap();
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
    let mut foreign = of_fields(2, 1);
    foreign["source"]["type"] = "web".into();
    let (status, problem) = bench.post(EVENTS, &foreign).await;
    assert_eq!((status.as_u16(), &problem["reason"]), (422, &"SOURCE_TYPE_UNSUPPORTED".into()), "{problem}");
    database.discard().await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_named() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let cases = [
        ("/name", Value::Null, "name", "FIELD_MISSING"),
        ("/name", json!(" "), "name", "FIELD_MISSING"),
        ("/startDate", json!("soon"), "startDate", "FIELD_MALFORMED"),
        ("/source/id", json!("alice"), "source.id", "DID_MALFORMED"),
        ("/source/type", json!("radio"), "source.type", "SOURCE_TYPE_UNKNOWN"),
        ("/source/metadata/rev", json!("1"), "source.metadata.rev", "FIELD_MALFORMED"),
        ("/source/metadata/rkey", Value::Null, "source.metadata.rkey", "FIELD_MISSING"),
        ("/source/metadata/collection", json!(RSVP), "source.metadata.collection", "FIELD_MALFORMED"),
        ("/source/metadata", json!([]), "source.metadata", "FIELD_MALFORMED"),
    ];
    for (pointer, value, field, reason) in cases {
        let mut item = of_fields(1, 1);
        *item.pointer_mut(pointer).unwrap() = value;
        let (status, problem) = bench.post(EVENTS, &item).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!((&problem["field"], &problem["reason"]), (&field.into(), &reason.into()), "{pointer}");
    }
    for (name, value, reason) in [
        ("visibility", json!("private"), "VISIBILITY_UNSUPPORTED"),
        ("status", json!("draft"), "STATUS_UNSUPPORTED"),
        ("location", json!({ "lat": "north", "lon": 1 }), "FIELD_MALFORMED"),
    ] {
        let mut item = of_fields(1, 1);
        item[name] = value;
        let (_, problem) = bench.post(EVENTS, &item).await;
        assert_eq!(problem["reason"], reason, "{problem}");
    }
    assert!(bench.events().await.is_empty());
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
