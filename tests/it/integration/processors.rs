//! What OpenMeet's own processors send, copied from records in their ways.

use serde_json::{Value, json};

use super::{Bench, EVENTS, RSVPS, of_fields, of_web, rkey};
use crate::support::{
    database::{on_each_database, sqlite},
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

/// A record as its author's repository has it.
fn record(name: &str) -> Value {
    json!({
        "$type": EVENT, "name": name, "createdAt": "2025-06-01T00:00:00Z", "startsAt": "2027-01-01T18:00:00Z",
        "status": format!("{EVENT}#planned"),
    })
}

/// An event as the processor of the network's events sends it: the record, and what it makes of it beside.
fn processed(record: &Value, rev: i64) -> Value {
    json!({
        "name": record["name"], "description": "No description provided", "startDate": record["startsAt"],
        "endDate": null, "type": "in-person", "status": "draft", "visibility": "public",
        "source": {
            "id": uri(&did(1, 1), EVENT, &rkey(1)), "type": "bluesky", "rawRecord": record,
            "metadata": {
                "cid": cid_of(&record.to_string()), "rkey": rkey(1), "collection": EVENT, "did": did(1, 1),
                "rev": tid(BEGINNING + rev, 1), "time_us": BEGINNING + rev,
            },
        },
    })
}

/// The same by a stream.
fn streamed(record: &Value, rev: i64) -> String {
    let cid = cid_of(&record.to_string());
    commit(&did(1, 1), BEGINNING + rev, &tid(BEGINNING + rev, 1), EVENT, &rkey(1), Some((&cid, record)))
}

#[tokio::test]
async fn a_record_speaks_for_itself() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        // As a stream would have read it: planned, and so no draft.
        let mut item = processed(&record("Planned"), 10);
        assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "created");
        let seen = bench.query("{ events { nodes { name status } } }").await;
        assert_eq!(seen["events"]["nodes"], json!([{ "name": "Planned", "status": "PLANNED" }]));

        let loose = json!({
            "$type": EVENT, "name": "Loose", "createdAt": "2025-06-01T00:00:00Z", "startsAt": "January 1, 2027 18:00",
            "locations": [{ "$type": "community.lexicon.location.geo", "latitude": "fifty", "longitude": "13.4" }],
        });
        item = processed(&loose, 20);
        item["location"] = json!({ "lat": "fifty", "lon": "13.4", "description": 7 });
        item["image"] = json!({ "id": 450 });
        item["type"] = "hologram".into();
        item["name"] = json!({ "not": "looked at" });
        assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "updated");
        let held = &bench.records().await[0];
        assert_eq!(held.record.as_deref(), Some(loose.to_string().as_str()));
        assert_eq!((bench.events().await[0].name.as_str(), bench.events().await[0].starts_at), ("Loose", None));

        // Nothing is shown that was asked to be hidden.
        for visibility in ["private", "unlisted"] {
            let mut hidden = processed(&record("Hidden"), 30);
            hidden["visibility"] = visibility.into();
            let (status, problem) = bench.post(EVENTS, &hidden).await;
            let expected = (422, &json!("visibility"), &json!("VISIBILITY_UNSUPPORTED"));
            assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), expected, "{problem}");
        }
        for hidden in [json!(false), json!(0)] {
            let mut unlisted = record("Unlisted");
            unlisted["preferences"] = json!({ "showInDiscovery": hidden });
            let mut item = processed(&unlisted, if hidden == json!(0) { 50 } else { 40 });
            item["visibility"] = "unlisted".into();
            bench.bring(EVENTS, &item).await;
        }
        assert_eq!(bench.query("{ events { totalCount } }").await["events"]["totalCount"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_takes_the_place_of_nothing() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let good = record("Good");
        bench.bring(EVENTS, &processed(&good, 10)).await;
        for (number, told) in ["rev", "time_us", "neither"].into_iter().enumerate() {
            let mut bad = processed(&json!({ "$type": EVENT, "name": " " }), 20 + i64::try_from(number).unwrap());
            if told != "rev" {
                bad["source"]["metadata"].as_object_mut().unwrap().remove("rev");
            }
            if told == "neither" {
                bad["source"]["metadata"].as_object_mut().unwrap().remove("time_us");
            }
            let (status, problem) = bench.post(EVENTS, &bad).await;
            let expected = (422, &json!("source.rawRecord"), &json!("EVENT_NAME_MISSING"));
            assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), expected, "{problem}");
        }
        let held = &bench.records().await[0];
        assert_eq!(
            (held.record.as_deref(), held.rev.as_str()),
            (Some(good.to_string().as_str()), &*tid(BEGINNING + 10, 1))
        );
        assert_eq!(bench.events().await[0].name, "Good");

        // Nor does an answer that is too long take the place of one that was not.
        bench.bring(EVENTS, &of_web("1")).await;
        bench.bring(RSVPS, &super::to_web("1", 2, "going")).await;
        let mut long = super::to_web("1", 2, "notgoing");
        long["note"] = "x".repeat(20_000).into();
        let (status, problem) = bench.post(RSVPS, &long).await;
        assert_eq!((status.as_u16(), &problem["reason"]), (422, &"RSVP_TOO_LARGE".into()));
        assert_eq!(bench.events().await[1].confirmed_count, 1);
    })
    .await;
}

#[tokio::test]
async fn the_later_revision_of_what_is_held_counts() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let (first, second) = (record("First"), record("Second"));
        let rev = async || bench.records().await[0].rev.clone();
        bench.test.submit(&[streamed(&first, 10)]).await;
        // With the record, and by its fields alone.
        for (at, is_whole) in [(30, true), (50, false)] {
            let mut item = processed(&first, at);
            if !is_whole {
                item["source"]["rawRecord"] = Value::Null;
                item["status"] = "pending".into();
                item["description"] = "nothing of this is the record's".into();
            }
            assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "unchanged");
            assert_eq!(rev().await, tid(BEGINNING + at, 1));
            bench.test.submit(&[streamed(&second, at - 10)]).await;
            let held = &bench.records().await[0];
            assert_eq!(held.record.as_deref(), Some(first.to_string().as_str()), "what came late is applied");
        }
        // Two of one batch are taken one after the other.
        let items = json!([processed(&second, 60), processed(&first, 70), processed(&second, 65)]);
        let answer = bench.bring(&format!("{EVENTS}:batch"), &items).await;
        let outcomes: Vec<&Value> = answer["results"].as_array().unwrap().iter().map(|item| &item["outcome"]).collect();
        assert_eq!(outcomes, ["updated", "updated", "unchanged"]);
        assert_eq!((rev().await, bench.events().await[0].name.as_str()), (tid(BEGINNING + 70, 1), "First"));
        // A copy without a revision moves none.
        let mut copy = processed(&first, 90);
        copy["source"]["metadata"].as_object_mut().unwrap().remove("rev");
        assert_eq!(bench.bring(EVENTS, &copy).await["outcome"], "unchanged");
        assert_eq!(rev().await, tid(BEGINNING + 70, 1));
    })
    .await;
}

#[tokio::test]
async fn links_have_names_where_they_are_given() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let (tickets, page) = ("https://tickets.example/", "https://page.example/");
    let linked = |mut item: Value, links: Value| {
        item["source"]["url"] = page.into();
        item["source"]["metadata"]["uris"] = links;
        item
    };
    let links = json!([{ "uri": tickets, "name": "Tickets", "isPage": true }, "https://plain.example/"]);
    let asked = "{ events { nodes { links { name url } } } }";
    for (item, name) in [(of_fields(1, 10), "uri"), (of_web("1"), "web")] {
        bench.bring(EVENTS, &linked(item, links.clone())).await;
        let shown = bench.query(asked).await["events"]["nodes"].take().to_string();
        assert!(shown.contains(&json!({ "name": "Tickets", "url": tickets }).to_string()), "{name}: {shown}");
    }
    // What links to itself as a page is a link all the same, and goes with them.
    bench.bring(EVENTS, &linked(of_fields(1, 20), json!([]))).await;
    let seen = bench.query(asked).await;
    assert_eq!(seen["events"]["nodes"][0]["links"], json!([{ "name": null, "url": page }]));
    for (number, wrong) in
        [json!([5]), json!([{ "name": "x" }]), json!([{ "uri": tickets, "name": 5 }])].into_iter().enumerate()
    {
        let (status, problem) = bench.post(EVENTS, &linked(of_fields(2, 1), wrong)).await;
        assert_eq!((status.as_u16(), &problem["field"]), (422, &"source.metadata.uris".into()), "{number}: {problem}");
    }
    database.discard().await;
}

#[tokio::test]
async fn what_is_absent_of_links_and_preferences_stays() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let mut own = record("Linked");
        own["uris"] = json!([{ "uri": "https://tickets.example/", "name": "Tickets" }]);
        own["preferences"] = json!({ "theme": "dark", "showInDiscovery": true });
        bench.test.submit(&[streamed(&own, 10)]).await;
        let mut item = of_fields(1, 20);
        item["source"]["url"] = "https://page.example/".into();
        item["visibility"] = "unlisted".into();
        bench.bring(EVENTS, &item).await;
        let kept: Value = serde_json::from_str(bench.records().await[0].record.as_deref().unwrap()).unwrap();
        assert_eq!(kept["preferences"], json!({ "theme": "dark", "showInDiscovery": false }));
        let slug = bench.events().await[0].slug.clone();
        let links = format!("{{ event(by: {{ slug: {slug:?} }}) {{ links {{ name url }} }} }}");
        let expected = json!([
            { "name": "Tickets", "url": "https://tickets.example/" }, { "name": null, "url": "https://page.example/" },
        ]);
        assert_eq!(bench.query(&links).await["event"]["links"], expected);
        let mut said = of_fields(1, 30);
        said["description"] = "no word of links".into();
        assert_eq!(bench.bring(EVENTS, &said).await["outcome"], "updated");
        assert_eq!(bench.query(&links).await["event"]["links"], expected);
    })
    .await;
}

#[tokio::test]
async fn two_names_of_one_thing_must_agree() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let event = processed(&record("One"), 10);
    for (pointer, value, field, reason) in [
        ("/source/id", json!(uri(&did(1, 1), EVENT, &rkey(2))), "source.metadata.rkey", "SOURCE_AMBIGUOUS"),
        ("/source/id", json!(uri(&did(1, 1), RSVP, &rkey(1))), "source.id", "SOURCE_ID_MALFORMED"),
        ("/source/id", json!(uri(&did(1, 2), EVENT, &rkey(1))), "source.metadata.did", "SOURCE_AMBIGUOUS"),
        ("/source/metadata/rev", json!("jzzzzzzzzzzzz"), "source.metadata.rev", "TIME_AHEAD"),
    ] {
        let mut item = event.clone();
        *item.pointer_mut(pointer).unwrap() = value;
        let (status, problem) = bench.post(EVENTS, &item).await;
        assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), (422, &field.into(), &reason.into()));
    }
    let answer = json!({
        "eventSourceId": uri(&did(1, 1), EVENT, &rkey(1)), "eventSourceType": "bluesky", "userDid": did(1, 2),
        "userHandle": did(1, 2), "status": "going", "timestamp": "2025-06-01T00:00:00Z",
        "sourceId": uri(&did(1, 2), RSVP, &rkey(5)),
        "metadata": {
            "cid": cid_of("x"), "rkey": rkey(5), "collection": RSVP, "time_us": BEGINNING,
            "eventUri": uri(&did(1, 1), EVENT, &rkey(1)), "eventCid": cid_of("y"), "rev": null,
        },
    });
    for (pointer, value, field, reason) in [
        ("/sourceId", json!("r1"), "sourceId", "SOURCE_ID_MALFORMED"),
        ("/sourceId", json!(uri(&did(1, 2), EVENT, &rkey(5))), "sourceId", "SOURCE_ID_MALFORMED"),
        ("/sourceId", json!(uri(&did(1, 2), RSVP, &rkey(6))), "metadata.rkey", "SOURCE_AMBIGUOUS"),
        ("/sourceId", json!(uri(&did(1, 3), RSVP, &rkey(5))), "sourceId", "SOURCE_AMBIGUOUS"),
        ("/metadata/eventUri", json!(uri(&did(1, 1), EVENT, &rkey(2))), "metadata.eventUri", "SOURCE_AMBIGUOUS"),
        ("/eventSourceId", json!(did(1, 3)), "metadata.eventUri", "SOURCE_AMBIGUOUS"),
        ("/metadata/rev", json!("jzzzzzzzzzzzz"), "metadata.rev", "TIME_AHEAD"),
    ] {
        let mut item = answer.clone();
        *item.pointer_mut(pointer).unwrap() = value;
        let (status, problem) = bench.post(RSVPS, &item).await;
        assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), (422, &field.into(), &reason.into()));
    }
    assert!(bench.records().await.is_empty());
    // A record may name the version that it answers as it likes.
    let mut loose = answer.clone();
    loose["metadata"]["eventCid"] = "none".into();
    assert_eq!(bench.bring(RSVPS, &loose).await["outcome"], "waiting");
    assert_eq!(bench.bring(RSVPS, &answer).await["sourceId"], uri(&did(1, 2), RSVP, &rkey(5)));
    assert_eq!(bench.bring(EVENTS, &event).await["sourceId"], uri(&did(1, 1), EVENT, &rkey(1)));
    database.discard().await;
}

#[tokio::test]
async fn sites_with_names_of_their_own_never_meet() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for site in ["luma", "meetup", "eventbrite", "facebook"] {
            let item = json!({ "name": site, "image": { "id": 7 }, "source": { "type": site, "id": "1" } });
            let made = bench.bring(EVENTS, &item).await;
            assert_eq!((&made["outcome"], &made["sourceId"]), (&"created".into(), &"1".into()));
            let answer =
                json!({ "eventSourceId": "1", "eventSourceType": site, "userDid": did(1, 2), "status": "going" });
            let answered = bench.bring(RSVPS, &answer).await;
            assert_eq!((&answered["outcome"], &answered["slug"]), (&"created".into(), &made["slug"]));
        }
        assert!(bench.events().await.iter().all(|event| event.confirmed_count == 1));
        let found = bench.query("{ event(by: { source: { type: OTHER, id: \"luma:1\" } }) { name } }").await;
        assert_eq!(found["event"]["name"], "luma");
        bench.take_away(&format!("{EVENTS}?sourceType=luma&sourceId=1")).await;
        let left: Vec<String> = bench.events().await.into_iter().map(|event| event.name).collect();
        assert_eq!(left, ["meetup", "eventbrite", "facebook"]);
    })
    .await;
}
