//! Answers of people of the network to events of other origins.

use axum::http::StatusCode;
use entities::{event_attendee, sets::SourceType};
use sea_orm::EntityTrait;
use serde_json::json;

use super::{Bench, EVENTS, RSVPS, account, of_web, to_web};
use crate::support::{
    database::on_each_database,
    records::{BEGINNING, did},
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
        assert_eq!((status.as_u16(), &problem["reason"]), (422, &"SOURCE_AMBIGUOUS".into()), "{problem}");
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
