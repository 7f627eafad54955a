//! Events of other origins than the network, as scrapers bring them.

use axum::http::StatusCode;
use entities::sets::{EventStatus, EventVisibility, SourceType};
use serde_json::json;

use super::{Bench, EVENTS, of_web};
use crate::support::{
    database::{on_each_database, sqlite},
    records::BEGINNING,
};

const LIST: &str = "{ events { nodes { name slug organizer { __typename displayName did isShadow }
    source { type externalId url } atproto { uri } } }
    eventChanges { changes { operation changedFields uri source } }
    found: events(filter: { query: \"concert\" }) { nodes { name } } }";

#[tokio::test]
async fn a_scraped_event_is_brought_changed_and_taken_away() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let mut item = of_web("a/1 ?&");
        item["description"] = "A concert".into();
        item["location"] = json!({ "description": "The Hall", "lat": "52.5", "lon": 13.4 });
        item["source"]["url"] = "https://www.example.com/a".into();
        item["categories"] = json!(["music"]);
        let made = bench.bring(EVENTS, &item).await;
        assert_eq!(made["outcome"], "created");
        // Verbatim, on a shelf of its own.
        let held = &bench.records().await[0];
        assert_eq!(held.uri, format!("web://{}/event/a%2F1+%3F%26", bench.test.app.tenant.id()));
        assert_eq!(serde_json::from_str::<serde_json::Value>(held.record.as_deref().unwrap()).unwrap(), item);
        assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "unchanged");

        let renamed = json!({ "name": "Renamed", "source": { "type": "web", "id": "a/1 ?&" }, "location": null });
        let updated = bench.bring(EVENTS, &renamed).await;
        assert_eq!((&updated["outcome"], &updated["slug"]), (&"updated".into(), &made["slug"]));
        let event = &bench.events().await[0];
        assert_eq!((event.name.as_str(), event.description.as_deref()), ("Renamed", Some("A concert")));
        assert_eq!((event.latitude, event.source_type, event.is_hidden), (Some(52.5), SourceType::Web, false));
        assert!(event.starts_at.is_some());

        let seen = bench.query(LIST).await;
        assert_eq!(
            seen["events"]["nodes"],
            json!([{
                "name": "Renamed", "slug": made["slug"], "atproto": null,
                "organizer": { "__typename": "ShadowAccount", "displayName": "example.com", "did": null, "isShadow": true },
                "source": { "type": "WEB", "externalId": "a/1 ?&", "url": "https://www.example.com/a" },
            }])
        );
        assert_eq!(seen["found"]["nodes"], json!([{ "name": "Renamed" }]));
        assert_eq!(
            seen["eventChanges"]["changes"],
            json!([
                { "operation": "CREATED", "changedFields": [], "uri": null, "source": "WEB" },
                { "operation": "UPDATED", "changedFields": ["name"], "uri": null, "source": "WEB" },
            ])
        );
        let by_source = bench.query("{ event(by: { source: { type: WEB, id: \"a/1 ?&\" } }) { name } }").await;
        assert_eq!(by_source["event"]["name"], "Renamed");

        let place = format!("{EVENTS}?sourceType=web&sourceId=a%2F1%20%3F%26");
        bench.take_away(&place).await;
        assert!(bench.events().await.is_empty());
        let (status, problem) = bench.delete(&place).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &"NOT_FOUND".into()));
        // What is brought again is there again.
        assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "created");
        assert_eq!(bench.events().await[0].description.as_deref(), Some("A concert"));
    })
    .await;
}

#[tokio::test]
async fn the_time_that_a_program_tells_decides() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let at = |name: &str, seconds: i64| {
            let mut item = of_web("1");
            item["name"] = name.into();
            item["source"]["metadata"] = json!({ "time_us": BEGINNING + seconds * 1_000_000 });
            item
        };
        let outcomes = bench.bring(&format!("{EVENTS}:batch"), &json!([at("b", 20), at("a", 10), at("c", 30)])).await;
        let outcomes: Vec<_> =
            outcomes["results"].as_array().unwrap().iter().map(|result| result["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["created", "unchanged", "updated"]);
        assert_eq!(bench.events().await[0].name, "c");
        // The same words later say nothing new, but keep the earlier ones away.
        assert_eq!(bench.bring(EVENTS, &at("c", 50)).await["outcome"], "unchanged");
        assert_eq!(bench.bring(EVENTS, &at("d", 40)).await["outcome"], "unchanged");
        assert_eq!(bench.events().await[0].name, "c");
        // Without a time it is the latest.
        let mut plain = of_web("1");
        plain["name"] = "e".into();
        assert_eq!(bench.bring(EVENTS, &plain).await["outcome"], "updated");
    })
    .await;
}

#[tokio::test]
async fn drafts_and_private_events_are_kept_and_not_listed() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for (id, field, value) in [("1", "status", "draft"), ("2", "visibility", "private"), ("3", "visibility", "unlisted")] {
            let mut item = of_web(id);
            item["source"]["type"] = "other".into();
            item[field] = value.into();
            bench.bring(EVENTS, &item).await;
        }
        let events = bench.events().await;
        assert_eq!((events[0].status, events[1].visibility), (EventStatus::Draft, EventVisibility::Private));
        let of = |id: &str| format!("event(by: {{ source: {{ type: OTHER, id: \"{id}\" }} }}) {{ name }}");
        let document = format!("{{ events {{ totalCount }} a: {} b: {} c: {} eventChanges {{ changes {{ cursor }} }} }}", of("1"), of("2"), of("3"));
        let seen = bench.query(&document).await;
        let expected = json!({ "events": { "totalCount": 0 }, "a": null, "b": null, "c": { "name": "Event 3" }, "eventChanges": { "changes": [] } });
        assert_eq!(seen, expected);
        // Published by one field.
        let published = json!({ "name": "Out", "status": "published", "source": { "type": "other", "id": "1" } });
        bench.bring(EVENTS, &published).await;
        assert_eq!(bench.query("{ events { totalCount } }").await["events"]["totalCount"], 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_program_cannot_say_is_named() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    for (pointer, value, field, reason) in [
        ("/source/id", json!("x".repeat(701)), "source.id", "SOURCE_ID_MALFORMED"),
        ("/source/id", json!("a\u{0}b"), "source.id", "SOURCE_ID_MALFORMED"),
        ("/source/id", json!("  "), "source.id", "FIELD_MISSING"),
        ("/source/type", json!("openmeet"), "source.type", "SOURCE_TYPE_UNKNOWN"),
        ("/startDate", json!("soon"), "startDate", "FIELD_MALFORMED"),
        ("/name", json!(null), "name", "FIELD_MISSING"),
        ("/source/metadata/time_us", json!(8_000_000_000_000_000_i64), "source.metadata.time_us", "TIME_AHEAD"),
        ("/source/metadata/rev", json!("jzzzzzzzzzzzz"), "source.metadata.rev", "TIME_AHEAD"),
    ] {
        let mut item = of_web("1");
        item["source"]["metadata"] = json!({ "time_us": null, "rev": null });
        *item.pointer_mut(pointer).unwrap() = value;
        let (status, problem) = bench.post(EVENTS, &item).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!((&problem["field"], &problem["reason"]), (&field.into(), &reason.into()), "{pointer}");
    }
    let (_, problem) = bench.delete(&format!("{EVENTS}?sourceType=web&sourceId=")).await;
    assert_eq!(problem["reason"], "SOURCE_ID_MALFORMED");
    // Of many updates that each bring something new the record does not grow without end.
    let filled = |number: usize| {
        let mut item = of_web("1");
        item[format!("field{number}")] = "x".repeat(200_000).into();
        item
    };
    let mut refused = None;
    for number in 0..10 {
        let (status, problem) = bench.post(EVENTS, &filled(number)).await;
        if status != StatusCode::ACCEPTED {
            refused = Some(problem["reason"].clone());
            break;
        }
    }
    assert_eq!(refused, Some("RECORD_TOO_LARGE".into()));
    assert_eq!(bench.events().await.len(), 1);
    database.discard().await;
}
