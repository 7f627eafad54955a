//! Updates that come at the same time, and copies beside the records that they are of.

use std::sync::Arc;

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Bench, EVENTS, of_fields, of_web, rkey};
use crate::support::{
    database::{on_each_database, postgres},
    records::{BEGINNING, EVENT, cid_of, commit, did, tid, uri},
};

/// So many updates at once, each of a field of its own.
const AT_ONCE: usize = 24;

/// An event of the network without a revision.
fn copy(name: &str) -> Value {
    let mut item = of_fields(1, 1);
    item["name"] = name.into();
    item["source"]["metadata"].as_object_mut().unwrap().remove("rev");
    item
}

async fn rush(bench: Bench, base: Value) {
    let bench = Arc::new(bench);
    bench.bring(EVENTS, &base).await;
    let updates = (0..AT_ONCE).map(|number| {
        let mut item = base.clone();
        item["source"]["metadata"]["uris"] = Value::Null;
        // Only `name` has to be there: every update says something else besides.
        item.as_object_mut().unwrap().remove("startDate");
        match number {
            0 => item["description"] = "said".into(),
            1 => item["endDate"] = "2027-01-01T20:00:00Z".into(),
            2 => item["type"] = "hybrid".into(),
            3 => item["status"] = "cancelled".into(),
            4 => item["visibility"] = "unlisted".into(),
            5 => item["location"] = json!({ "lat": 1.5, "lon": 2.5 }),
            6 => item["recurrenceRule"] = "FREQ=DAILY".into(),
            7 => item["isRecurring"] = true.into(),
            8 => item["categories"] = json!(["one"]),
            _ => item["image"] = format!("https://example.com/{number}").into(),
        }
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.bring(EVENTS, &item).await })
    });
    for answer in join_all(updates.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap()["outcome"], "updated");
    }
    let event = &bench.events().await[0];
    let text = format!("{event:?} {}", bench.records().await[0].record.as_deref().unwrap());
    assert!(event.starts_at.is_some() && event.ends_at.is_some() && event.latitude == Some(1.5), "{text}");
    for said in ["said", "Hybrid", "Cancelled", "Unlisted", "FREQ=DAILY", "isRecurring", "one", "image"] {
        assert!(text.contains(said), "{said} is lost: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_to_another_at_the_same_time() {
    let Some(database) = postgres().await else { return };
    rush(Bench::open(&database).await, of_web("1")).await;
    database.discard().await;
    let Some(database) = postgres().await else { return };
    rush(Bench::open(&database).await, copy("a copy")).await;
    database.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_two_bring_at_once_is_one() {
    let Some(database) = postgres().await else { return };
    let bench = Arc::new(Bench::open(&database).await);
    let answers = (0..12).map(|number| {
        let mut item = of_web("1");
        item["source"]["id"] = format!("{}", number % 3).into();
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.bring(EVENTS, &item).await })
    });
    for answer in join_all(answers.collect::<Vec<_>>()).await {
        answer.unwrap();
    }
    // Three identifiers of one page.
    assert_eq!((bench.events().await.len(), bench.records().await.len()), (1, 3));
    drop(bench);
    database.discard().await;
}

#[tokio::test]
async fn the_networks_own_record_overrules_a_copy_whenever_it_comes() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let record = json!({ "$type": EVENT, "name": "Its own", "createdAt": "2025-06-01T00:00:00Z" });
        let cid = cid_of(&record.to_string());
        // Written long before the copy came.
        let line = commit(&did(1, 1), BEGINNING, &tid(BEGINNING, 1), EVENT, &rkey(1), Some((&cid, &record)));
        assert_eq!(bench.bring(EVENTS, &copy("a copy")).await["outcome"], "created");
        assert_eq!(bench.bring(EVENTS, &copy("a later copy")).await["outcome"], "updated");
        let mut timed = copy("a copy that tells when it was seen");
        timed["source"]["metadata"]["time_us"] = (BEGINNING + 5_000_000).into();
        assert_eq!(bench.bring(EVENTS, &timed).await["outcome"], "unchanged");
        bench.test.submit(std::slice::from_ref(&line)).await;
        assert_eq!(bench.events().await[0].name, "Its own");
        assert_eq!(bench.bring(EVENTS, &copy("too late")).await["outcome"], "unchanged");
        // All of the record without its revision is a copy as well.
        let mut whole = copy("whole");
        whole["source"]["rawRecord"] = json!({ "$type": EVENT, "name": "Whole", "createdAt": "2025-06-01T00:00:00Z" });
        assert_eq!(bench.bring(EVENTS, &whole).await["outcome"], "unchanged");
        assert_eq!(bench.events().await[0].name, "Its own");
        // With a revision it speaks like a stream.
        whole["source"]["metadata"]["rev"] = tid(BEGINNING + 1, 1).into();
        assert_eq!(bench.bring(EVENTS, &whole).await["outcome"], "updated");

        // A deletion that a program tells is the end of what was known, and no replay brings it back.
        let place = format!("{EVENTS}?sourceType=bluesky&sourceId={}", uri(&did(1, 1), EVENT, &rkey(1)));
        bench.take_away(&place).await;
        bench.test.submit(&[line]).await;
        assert!(bench.events().await.is_empty());
        assert_eq!(bench.delete(&place).await.0, StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_was_taken_away_comes_back_by_itself_or_by_its_record() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let place = format!("{EVENTS}?sourceType=bluesky&sourceId={}", uri(&did(1, 1), EVENT, &rkey(1)));
        for _ in 0..2 {
            assert_eq!(bench.bring(EVENTS, &copy("a copy")).await["outcome"], "created");
            bench.take_away(&place).await;
            assert!(bench.events().await.is_empty());
        }
        let record = json!({ "$type": EVENT, "name": "Its own", "createdAt": "2025-06-01T00:00:00Z" });
        let cid = cid_of(&record.to_string());
        let line = commit(&did(1, 1), BEGINNING, &tid(BEGINNING, 1), EVENT, &rkey(1), Some((&cid, &record)));
        bench.test.submit(&[line]).await;
        assert_eq!(bench.events().await[0].name, "Its own");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_bring_the_same_at_once_one_has_created_it() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for round in 0..5 {
            let items = (0..8).map(|number| {
                let mut item = of_web(&format!("round {round}"));
                item["description"] = format!("as {number} has it").into();
                item
            });
            let items: Vec<Value> = items.collect();
            let answers = join_all(items.iter().map(|item| bench.bring(EVENTS, item))).await;
            let mut outcomes: Vec<&str> = answers.iter().filter_map(|answer| answer["outcome"].as_str()).collect();
            outcomes.sort_unstable();
            assert_eq!(outcomes, [["created"].as_slice(), &["updated"; 7]].concat());
        }
        assert_eq!(bench.events().await.len(), 5);
    })
    .await;
}
