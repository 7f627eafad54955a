//! Records of the network, as processors bring them.

use axum::http::{Method, StatusCode};
use entities::{event_attendee, source_record};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use super::{Bench, EVENTS, RSVPS, answer_to, of_fields, rkey};
use crate::support::{
    database::{on_each_database, sqlite},
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

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
        same["source"]["metadata"]["rev"] = tid(BEGINNING + 40, 1).into();
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
