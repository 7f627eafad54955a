//! Records with other identifiers that tell of an event that is known.

use axum::http::StatusCode;
use entities::{event_source, sets::MatchMethod};
use sea_orm::{EntityTrait, QueryOrder};
use serde_json::{Value, json};

use super::{Bench, EVENTS, RSVPS, of_fields, of_web, rkey, to_web};
use crate::support::{
    database::on_each_database,
    records::{EVENT, did, uri},
};

fn named(id: &str, name: &str, url: Option<&str>) -> Value {
    let mut item = of_web(id);
    item["name"] = name.into();
    item["source"]["url"] = url.into();
    item["location"] = json!({ "description": "The Hall" });
    item
}

async fn methods(bench: &Bench) -> Vec<MatchMethod> {
    let rows = event_source::Entity::find().order_by_asc(event_source::Column::Uri);
    rows.all(bench.test.app.db.read()).await.unwrap().into_iter().map(|row| row.method).collect()
}

#[tokio::test]
async fn a_page_and_a_start_name_one_event() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let page = Some("https://example.com/e");
        let mut first = named("a", "Concert", page);
        first["description"] = "long".into();
        let made = bench.bring(EVENTS, &first).await;
        // Another identifier of the same page: an update of the same event, which keeps what it leaves out.
        let double = bench.bring(EVENTS, &named("b", "Concert!", page)).await;
        assert_eq!((&double["outcome"], &double["slug"]), (&"duplicate".into(), &made["slug"]));
        assert_eq!(methods(&bench).await, [MatchMethod::SourceId, MatchMethod::SourceUrl]);
        let events = bench.events().await;
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].name.as_str(), events[0].description.as_deref()), ("Concert!", Some("long")));
        for id in ["a", "b"] {
            let found =
                bench.query(&format!("{{ event(by: {{ source: {{ type: WEB, id: \"{id}\" }} }}) {{ name }} }}")).await;
            assert_eq!(found["event"]["name"], "Concert!");
        }
        // Another date of the series on that page is another event.
        let mut later = named("c", "Concert", page);
        later["startDate"] = "2027-01-08T18:00:00Z".into();
        assert_eq!(bench.bring(EVENTS, &later).await["outcome"], "created");
        // And so is what another source says of it.
        let mut other = named("a", "Concert", page);
        other["source"]["type"] = "other".into();
        assert_eq!(bench.bring(EVENTS, &other).await["outcome"], "created");
    })
    .await;
}

#[tokio::test]
async fn an_event_goes_with_the_last_record_that_tells_of_it() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.bring(RSVPS, &to_web("b", 2, "going")).await;
        bench.bring(EVENTS, &named("a", "Concert", None)).await;
        // The same name, written a little otherwise, start and place.
        let double = bench.bring(EVENTS, &named("b", " CONCERT!", None)).await;
        assert_eq!(double["outcome"], "duplicate");
        assert_eq!(methods(&bench).await, [MatchMethod::SourceId, MatchMethod::Fingerprint]);
        // Who answered one of them answers the event.
        assert_eq!(bench.events().await[0].confirmed_count, 1);
        bench.bring(RSVPS, &to_web("a", 3, "going")).await;
        assert_eq!(bench.events().await[0].confirmed_count, 2);
        bench.take_away(&format!("{EVENTS}?sourceType=web&sourceId=a")).await;
        let events = bench.events().await;
        assert_eq!((events.len(), events[0].name.as_str(), events[0].confirmed_count), (1, "CONCERT!", 2));
        // The first one comes back to its event.
        let back = bench.bring(EVENTS, &named("a", "Concert", None)).await;
        assert_eq!((&back["outcome"], bench.events().await.len()), (&"created".into(), 1));
        for id in ["b", "a"] {
            bench.take_away(&format!("{EVENTS}?sourceType=web&sourceId={id}")).await;
        }
        assert!(bench.events().await.is_empty() && methods(&bench).await.is_empty());
        assert_eq!(bench.delete(&format!("{EVENTS}?sourceType=web&sourceId=a")).await.0, StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn what_lacks_a_place_is_like_nothing() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for id in ["a", "b"] {
            let mut item = named(id, "Concert", None);
            item["location"] = Value::Null;
            assert_eq!(bench.bring(EVENTS, &item).await["outcome"], "created");
        }
        // Sites are told apart.
        for (id, url) in [("c", "https://one.example/c"), ("d", "https://two.example/d")] {
            assert_eq!(bench.bring(EVENTS, &named(id, "Concert", Some(url))).await["outcome"], "created");
        }
        assert_eq!(
            bench.bring(EVENTS, &named("e", "Concert", Some("https://www.one.example/e"))).await["outcome"],
            "duplicate"
        );
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_an_event_of_the_network_changes_nothing() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let made = bench.bring(EVENTS, &of_fields(1, 10)).await;
        bench.bring(RSVPS, &to_web("a", 4, "going")).await;
        let record = uri(&did(1, 1), EVENT, &rkey(1));
        let copy = |id: &str, person: usize| {
            let mut item = named(id, "Overwritten", None);
            item["source"]["metadata"] = json!({ "did": did(1, person), "uris": [record] });
            item
        };
        // Only for who says that it is the author's.
        assert_eq!(bench.bring(EVENTS, &copy("stranger", 2)).await["outcome"], "created");
        bench.take_away(&format!("{EVENTS}?sourceType=web&sourceId=stranger")).await;
        let double = bench.bring(EVENTS, &copy("a", 1)).await;
        assert_eq!((&double["outcome"], &double["slug"]), (&"duplicate".into(), &made["slug"]));
        assert_eq!(methods(&bench).await, [MatchMethod::LinkBack]);
        let events = bench.events().await;
        assert_eq!((events.len(), events[0].name.as_str()), (1, "Event 1"));
        // Nobody answers an event of the network by a source that is not the network's; those before and after wait.
        for person in [2, 3] {
            let waiting = bench.bring(RSVPS, &to_web("a", person, "going")).await;
            let expected = (&json!("waiting"), &Value::Null, &Value::Null);
            assert_eq!((&waiting["outcome"], &waiting["slug"], &waiting["attendeeId"]), expected);
        }
        assert_eq!(bench.events().await[0].confirmed_count, 0);
        bench.bring(RSVPS, &super::answer_to(1, 5, "notgoing")).await;
        let event = &bench.events().await[0];
        assert_eq!((event.confirmed_count, event.cancelled_count), (0, 1));
        // When the event of the network goes, what the program tells of is an event of its own, with its answers.
        bench.take_away(&format!("{EVENTS}?sourceType=bluesky&sourceId={record}")).await;
        assert!(bench.events().await.is_empty());
        bench.bring(EVENTS, &copy("a", 1)).await;
        let events = bench.events().await;
        assert_eq!((events.len(), events[0].name.as_str(), events[0].confirmed_count), (1, "Overwritten", 3));
    })
    .await;
}
