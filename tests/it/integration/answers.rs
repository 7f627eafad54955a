//! Answers of people of the network to events of other origins.

use axum::http::StatusCode;
use entities::{event_attendee, sets::SourceType};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use super::{Bench, EVENTS, RSVPS, account, answer_to, of_fields, of_web, rkey, to_web};
use crate::support::{
    database::on_each_database,
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

/// Confirmed, maybe, cancelled.
async fn counts(bench: &Bench) -> [i32; 3] {
    let event = &bench.events().await[0];
    [event.confirmed_count, event.maybe_count, event.cancelled_count]
}

#[tokio::test]
async fn a_person_answers_an_event_of_a_scraper() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let early = bench.bring(RSVPS, &to_web("1", 2, "going")).await;
        assert_eq!((&early["outcome"], &early["attendeeId"]), (&"waiting".into(), &json!(null)));
        bench.bring(EVENTS, &of_web("1")).await;
        assert_eq!(counts(&bench).await, [1, 0, 0]);
        // Without a name of its own there is one answer of a person to an event.
        let changed = bench.bring(RSVPS, &to_web("1", 2, "maybe")).await;
        assert_eq!(changed["outcome"], "updated");
        assert!(changed["attendeeId"].is_string() && changed["slug"].is_string());
        assert_eq!(bench.bring(RSVPS, &to_web("1", 2, "maybe")).await["outcome"], "unchanged");
        let mut named = to_web("1", 3, "going");
        named["sourceId"] = "r1".into();
        assert_eq!(bench.bring(RSVPS, &named).await["outcome"], "created");
        assert_eq!(counts(&bench).await, [1, 1, 0]);
        let answers = event_attendee::Entity::find().all(bench.test.app.db.read()).await.unwrap();
        assert!(answers.iter().all(|answer| answer.source_type == SourceType::Web));
        let seen = bench.query("{ rsvps(filter: { source: [WEB] }) { nodes { attendee { did } atproto { uri } } } }").await;
        let expected = json!([{ "attendee": { "did": did(1, 3) }, "atproto": null }, { "attendee": { "did": did(1, 2) }, "atproto": null }]);
        assert_eq!(seen["rsvps"]["nodes"], expected);

        // A name is of one person's answer.
        let mut stolen = to_web("1", 4, "going");
        stolen["sourceId"] = "r1".into();
        let (status, problem) = bench.post(RSVPS, &stolen).await;
        let expected = (422, &json!("sourceId"), &json!("SOURCE_AMBIGUOUS"));
        assert_eq!((status.as_u16(), &problem["field"], &problem["reason"]), expected, "{problem}");
        let place = format!("{RSVPS}?sourceType=web&sourceId=r1");
        bench.take_away(&place).await;
        assert_eq!(counts(&bench).await, [0, 1, 0]);
        assert_eq!(bench.delete(&place).await.0, StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn an_answer_goes_with_its_account() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.bring(EVENTS, &of_web("1")).await;
        let mut answer = to_web("1", 2, "going");
        answer["metadata"] = json!({ "time_us": BEGINNING });
        bench.bring(RSVPS, &answer).await;
        bench.test.submit(&[account(2, BEGINNING + 1, Some("deactivated"))]).await;
        assert_eq!(counts(&bench).await, [0, 0, 0]);
        bench.test.submit(&[account(2, BEGINNING + 2, None)]).await;
        assert_eq!(counts(&bench).await, [1, 0, 0]);
        bench.test.submit(&[account(2, BEGINNING + 3, Some("deleted"))]).await;
        assert_eq!(counts(&bench).await, [0, 0, 0]);
        // And does not come back with a copy.
        assert_eq!(bench.bring(RSVPS, &answer).await["outcome"], "unchanged");
        let answers = event_attendee::Entity::find().all(bench.test.app.db.read()).await.unwrap();
        assert_eq!(answers.len(), 0);
    })
    .await;
}

/// What a program says of an answer of which it knows no record.
fn unnamed(number: i64, status: &str) -> Value {
    let mut answer = answer_to(number, 0, status);
    answer["metadata"] = json!({ "eventUri": uri(&did(1, 1), EVENT, &rkey(number)) });
    answer
}

/// What the person's repository says: an answer to an event, or that it is gone.
fn own(rev: i64, event: Option<i64>) -> String {
    let record = event.map(|number| {
        let subject = json!({ "uri": uri(&did(1, 1), EVENT, &rkey(number)), "cid": cid_of("x") });
        json!({ "$type": RSVP, "subject": subject, "status": format!("{RSVP}#going") })
    });
    let cid = cid_of(&format!("{record:?}"));
    let version = record.as_ref().map(|record| (cid.as_str(), record));
    commit(&did(1, 2), BEGINNING + rev, &tid(BEGINNING + rev, 2), RSVP, &rkey(700), version)
}

#[tokio::test]
async fn an_answer_without_a_name_is_told_one_and_taken_away_by_it() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.bring(EVENTS, &of_web("1")).await;
        bench.bring(EVENTS, &of_fields(1, 10)).await;
        for (source, answer) in [("web", to_web("1", 2, "going")), ("bluesky", unnamed(1, "going"))] {
            let made = bench.bring(RSVPS, &answer).await;
            let name = made["sourceId"].as_str().unwrap();
            assert_eq!(bench.bring(RSVPS, &answer).await["sourceId"], name);
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("sourceType", source)
                .append_pair("sourceId", name)
                .finish();
            assert_eq!(bench.events().await.iter().map(|event| event.confirmed_count).sum::<i32>(), 1, "{source}");
            bench.take_away(&format!("{RSVPS}?{query}")).await;
            assert_eq!(bench.events().await.iter().map(|event| event.confirmed_count).sum::<i32>(), 0, "{source}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_a_name_goes_with_the_persons_own() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for number in [1, 2] {
            bench.bring(EVENTS, &of_fields(number, 10)).await;
        }
        let going = async || bench.events().await.iter().map(|event| event.confirmed_count).collect::<Vec<_>>();
        bench.bring(RSVPS, &unnamed(1, "going")).await;
        assert_eq!(going().await, [1, 0]);
        // The person answers it, and then another event by the same record.
        bench.test.submit(&[own(20, Some(1))]).await;
        bench.test.submit(&[own(30, Some(2))]).await;
        assert_eq!(going().await, [0, 1]);
        // Whatever a program says of one that is held, in whatever batch it goes.
        bench.bring(RSVPS, &unnamed(2, "going")).await;
        bench.test.submit(&[own(40, None)]).await;
        assert_eq!(going().await, [0, 0]);
        bench.bring(RSVPS, &unnamed(1, "going")).await;
        assert_eq!(going().await, [1, 0]);
        bench.test.submit(&[own(50, Some(1)), own(60, None)]).await;
        assert_eq!(going().await, [0, 0]);
        // What comes twice takes nothing away that was said after it.
        bench.bring(RSVPS, &unnamed(1, "going")).await;
        bench.test.submit(&[own(60, None), own(20, Some(1))]).await;
        assert_eq!(going().await, [1, 0]);
    })
    .await;
}
