//! What is counted, on the way of a few messages.

use entities::sets::FailureState;
use gateway::{
    domain::ingest::{Stage, failure::backlog},
    infra::{queue::Topic, resilience::Dependency},
    telemetry,
};
use serde_json::json;

use crate::support::{
    app::TestApp,
    database::sqlite,
    records::{cid_of, commit, did, tid, uri},
};

const EVENT: &str = "community.lexicon.calendar.event";
const RSVP: &str = "community.lexicon.calendar.rsvp";
/// An instant in microseconds.
const AT: i64 = 1_790_000_000_000_000;

/// The value of a series, by its name and all of its labels.
fn value(rendered: &str, series: &str) -> Option<f64> {
    rendered.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

// One test, since a process has one recorder: it sees nothing of the other tests, each of which is a process of its own.
#[tokio::test]
async fn what_happens_is_counted_from_nought() {
    let metrics = telemetry::metrics().unwrap();
    let first = metrics.render();
    let messages = |operation: &str, outcome: &str| {
        format!("gateway_ingest_messages_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}")
    };
    let rsvps = |outcome: &str| format!("gateway_rsvp_outcomes_total{{outcome=\"{outcome}\"}}");
    let matches = |method: &str| format!("gateway_dedupe_matches_total{{method=\"{method}\"}}");
    let published = |topic: Topic| format!("gateway_queue_published_total{{topic=\"{}\"}}", topic.as_str());
    let opened = |part: Dependency| format!("gateway_circuit_openings_total{{dependency=\"{}\"}}", part.as_str());
    let everything =
        [messages("create", "applied"), messages("unknown", "parked"), rsvps("waiting"), matches("at_uri")]
            .into_iter()
            .chain(Topic::ALL.map(published))
            .chain(Dependency::ALL.map(opened));
    for series in everything {
        assert_eq!(value(&first, &series), Some(0.0), "{series} is there from the beginning");
    }

    let test = sqlite().await;
    let app = TestApp::open(&test).await;
    let (author, guest) = (did(1, 1), did(1, 2));
    let event = json!({ "name": "Picnic", "createdAt": "2026-09-01T10:00:00Z" });
    let version = cid_of(&event.to_string());
    let address = uri(&author, EVENT, "picnic");
    let answer = json!({
        "subject": { "uri": address, "cid": version },
        "status": "community.lexicon.calendar.rsvp#going",
    });
    let of_event = |at| commit(&author, at, &tid(at, 1), EVENT, "picnic", Some((&version, &event)));
    let of_answer = |at, record| commit(&guest, at, &tid(at, 2), RSVP, "going", record);
    let create = |line: String| line.replace("\"update\"", "\"create\"");
    let second = 1_000_000;
    let reply = cid_of(&answer.to_string());
    app.submit(&[create(of_answer(AT, Some((&reply, &answer))))]).await;
    app.submit(&[create(of_event(AT + second))]).await;
    app.submit(&[create(of_event(AT + second))]).await;
    app.submit(&[of_event(AT + 2 * second)]).await;
    app.submit(&[of_answer(AT + 3 * second, None), "nonsense".to_owned()]).await;

    let told = metrics.render();
    for (series, expected) in [
        (messages("create", "applied"), 2.0),
        (messages("create", "unchanged"), 1.0),
        (messages("update", "unchanged"), 1.0),
        (messages("delete", "applied"), 1.0),
        (messages("unknown", "parked"), 1.0),
        (rsvps("waiting"), 1.0),
        (rsvps("created"), 1.0),
        (rsvps("removed"), 1.0),
        (matches("at_uri"), 1.0),
        ("gateway_shadow_accounts_created_total".to_owned(), 2.0),
        ("gateway_circuit_state{dependency=\"database\"}".to_owned(), 0.0),
    ] {
        assert_eq!(value(&told, &series), Some(expected), "{series} in\n{told}");
    }
    for stage in [
        Stage::Receive,
        Stage::Identify,
        Stage::Attribute,
        Stage::Map,
        Stage::Dedupe,
        Stage::Route,
        Stage::Validate,
        Stage::Persist,
        Stage::Notify,
    ] {
        let series = format!("gateway_ingest_stage_seconds_count{{stage=\"{}\"}}", stage.as_str());
        assert_eq!(value(&told, &series), Some(5.0), "{series}");
    }
    // Whatever was counted was expected: no label has a value that did not begin with nought.
    let counters = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned());
        series
            .filter(|series| series.split('{').next().is_some_and(|name| name.ends_with("_total")))
            .collect::<Vec<_>>()
    };
    let known = counters(&first);
    let new: Vec<_> = counters(&told).into_iter().filter(|series| !known.contains(series)).collect();
    assert_eq!(new, ["gateway_ingest_parked_total{stage=\"receive\",code=\"MESSAGE_MALFORMED\"}"]);
    assert_eq!(backlog(&app.app).await.unwrap(), 1, "{}", FailureState::Parked.as_str());
    test.discard().await;
}
