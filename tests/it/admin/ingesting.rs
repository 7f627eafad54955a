//! Bringing events and answers by GraphQL: as over REST.

use entities::sets::SourceType;
use serde_json::{Value, json};

use super::Bench;
use crate::support::{
    database::{on_each_database, sqlite},
    records::{BEGINNING, EVENT, cid_of, did, tid, uri},
};

const EVENTS: &str = "mutation ($events: [ExternalEventInput!]!) {
    ingestEvents(input: { events: $events }) {
        results { outcome slug userErrors { code reason field message } }
        userErrors { code reason field }
    }
}";
const RSVPS: &str = "mutation ($rsvps: [ExternalRsvpInput!]!) {
    ingestRsvps(input: { rsvps: $rsvps }) {
        results { outcome rsvp { status event { name } } userErrors { code reason field } }
        userErrors { code reason field }
    }
}";
const DELETE: &str = "mutation ($id: String!) {
    deleteIngestedEvent(input: { sourceType: BLUESKY, sourceId: $id }) { deletedSourceId userErrors { code } }
}";

fn rkey(number: i64) -> String {
    tid(BEGINNING + number, 7)
}

fn brought(number: i64, rev: i64) -> Value {
    json!({
        "name": format!("Event {number}"), "startDate": "2027-01-01T18:00:00+02:00", "type": "ONLINE",
        "status": "PUBLISHED", "visibility": "UNLISTED", "location": { "description": "Town hall", "lat": 52.5, "lon": 13.4 },
        "source": {
            "type": "BLUESKY", "id": did(1, 1), "url": "https://example.com/",
            "metadata": {
                "rkey": rkey(number), "collection": EVENT, "rev": tid(BEGINNING + rev, 1), "seenAt": "2026-01-01T00:00:00Z",
            },
        },
    })
}

#[tokio::test]
async fn events_and_answers_are_brought_and_taken_away() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let at = uri(&did(1, 1), EVENT, &rkey(1));
        let answer = json!({
            "eventSourceId": did(1, 1), "eventSourceType": "BLUESKY", "userDid": did(1, 2), "status": "MAYBE",
            "metadata": { "rkey": rkey(500), "rev": tid(BEGINNING + 1, 2), "eventUri": at },
        });
        let early = bench.ask(RSVPS, json!({ "rsvps": [answer] })).await["ingestRsvps"].take();
        assert_eq!(early["results"][0], json!({ "outcome": "WAITING", "rsvp": null, "userErrors": [] }), "{early}");
        let mut later = brought(1, 2);
        later["description"] = json!("What it is about");
        let told = bench.ask(EVENTS, json!({ "events": [brought(1, 1), later] })).await["ingestEvents"].take();
        let outcomes: Vec<&Value> = told["results"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["CREATED", "UPDATED"], "{told}");
        let slug = &told["results"][0]["slug"];
        let document = "query ($slug: String!) { event(by: { slug: $slug }) {
            name startsAt mode attendance { maybeCount } locations { __typename }
        } }";
        let shown = bench.ask(document, json!({ "slug": slug })).await["event"].take();
        assert_eq!(
            (&shown["startsAt"], &shown["mode"]),
            (&json!("2027-01-01T16:00:00Z"), &json!("VIRTUAL")),
            "{shown}"
        );
        assert_eq!(shown["attendance"]["maybeCount"], 1);
        let late = bench.ask(RSVPS, json!({ "rsvps": [answer] })).await["ingestRsvps"].take();
        let rsvp = json!({ "status": "MAYBE", "event": { "name": "Event 1" } });
        assert_eq!(late["results"][0], json!({ "outcome": "UNCHANGED", "rsvp": rsvp, "userErrors": [] }));

        let deleted = bench.ask(DELETE, json!({ "id": at })).await["deleteIngestedEvent"].take();
        assert_eq!(deleted, json!({ "deletedSourceId": at, "userErrors": [] }));
        assert_eq!(bench.ask(document, json!({ "slug": slug })).await["event"], json!(null));
        let nothing = uri(&did(1, 1), EVENT, "nothing");
        let deleted = bench.ask(DELETE, json!({ "id": nothing })).await["deleteIngestedEvent"].take();
        assert_eq!(deleted, json!({ "deletedSourceId": null, "userErrors": [{ "code": "NOT_FOUND" }] }));
    })
    .await;
}

#[tokio::test]
async fn a_bad_item_is_refused_for_itself_with_its_reason() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut item = brought(7, 1);
        change(&mut item);
        item
    };
    let record = json!({ "$type": EVENT, "name": "Verbatim", "createdAt": "2026-01-01T00:00:00Z" }).to_string();
    let items = [
        with(&|item| item["startDate"] = json!("soon")),
        with(&|item| item["source"]["metadata"]["rev"] = json!("new")),
        with(&|item| item["source"]["rawRecord"] = json!("{ no JSON")),
        with(&|item| item["source"]["rawRecord"] = json!("[]")),
        with(&|item| item["visibility"] = json!("PRIVATE")),
        with(&|item| {
            item["source"]["metadata"]["rkey"] = json!(rkey(8));
            item["source"]["metadata"]["cid"] = json!(cid_of(&record));
            item["source"]["rawRecord"] = json!(record);
            item["visibility"] = json!(null);
        }),
    ];
    let told = bench.ask(EVENTS, json!({ "events": items })).await["ingestEvents"].take();
    let expected = [
        ("INVALID", "FIELD_MALFORMED", json!(["input", "events", "0", "startDate"])),
        ("INVALID", "FIELD_MALFORMED", json!(["input", "events", "1", "source", "metadata", "rev"])),
        ("INVALID", "FIELD_MALFORMED", json!(["input", "events", "2", "source", "rawRecord"])),
        ("INVALID", "FIELD_MALFORMED", json!(["input", "events", "3", "source", "rawRecord"])),
        ("INVALID", "VISIBILITY_UNSUPPORTED", json!(["input", "events", "4", "visibility"])),
    ];
    for (index, (code, reason, field)) in expected.into_iter().enumerate() {
        let result = &told["results"][index];
        assert_eq!(result["outcome"], json!(null));
        let mistake = &result["userErrors"][0];
        assert_eq!(
            (&mistake["code"], &mistake["reason"], &mistake["field"]),
            (&json!(code), &json!(reason), &field),
            "{result}"
        );
    }
    assert_eq!(told["results"][5]["outcome"], "CREATED", "{told}");
    let read = "query ($uri: AtUri!) { event(by: { uri: $uri }) { atproto { value } } }";
    let read = bench.ask(read, json!({ "uri": uri(&did(1, 1), EVENT, &rkey(8)) })).await;
    assert_eq!(read["event"]["atproto"]["value"]["name"], "Verbatim");

    for events in [json!([]), Value::Array(std::iter::repeat_n(brought(1, 1), 101).collect())] {
        let told = bench.ask(EVENTS, json!({ "events": events })).await["ingestEvents"].take();
        assert_eq!(told["userErrors"][0]["reason"], "BATCH_SIZE_OUT_OF_RANGE");
    }
    // An administrator that speaks for another source.
    let web = bench.test.key(&[SourceType::Web], true).await;
    let (_, told) = bench.answer(Some(&web), EVENTS, &json!({ "events": [brought(1, 1)] })).await;
    let mistake = &told["data"]["ingestEvents"]["results"][0]["userErrors"][0];
    assert_eq!(mistake["code"], "FORBIDDEN", "{told}");
    let (_, told) = bench.answer(Some(&web), DELETE, &json!({ "id": uri(&did(1, 1), EVENT, &rkey(8)) })).await;
    assert_eq!(told["errors"][0]["extensions"]["code"], "FORBIDDEN", "{told}");
    database.discard().await;
}
