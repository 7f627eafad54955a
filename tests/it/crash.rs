//! kill -9 of the whole process at random moments: nothing is lost, nothing is doubled, and who subscribed goes on where
//! the last delivery was.

mod subscriber;

use std::time::Duration;

use entities::{event, event_attendee, sets::ChangeOperation, source_record};
use fastrand::Rng;
use gateway::{domain::change, infra::db::Db};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use tokio::{process::Child, sync::watch};

use self::subscriber::{Seen, subscribe};
use crate::support::{
    database::{TestDb, postgres, sqlite},
    feed::logged,
    jetstream,
    process::{Program, kill},
    records::{Network, Row, network},
};

const EVENTS: usize = 14_600;
const RSVPS: usize = 5_400;
/// How often progress is looked at: often enough to kill in the middle of things.
const LOOK: Duration = Duration::from_millis(2);
/// Far more than anything here takes.
const NEVER: Duration = Duration::from_secs(110);

async fn records(db: &Db) -> u64 {
    source_record::Entity::find().count(db.read()).await.unwrap()
}

/// Starts the program, kills it when it has got a random bit further, and starts it again, so many times. The last one
/// runs.
async fn kill_again_and_again(db: &Db, kills: u64, mut start: impl FnMut() -> Child) -> Child {
    let mut rng = Rng::with_seed(kills);
    let all = (EVENTS + RSVPS) as u64;
    let mut child = start();
    for kill_number in 1..=kills {
        let threshold = all * kill_number / (kills + 2) + rng.u64(..all / (kills + 2));
        while records(db).await < threshold && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(LOOK).await;
        }
        assert!(kill(child).await, "it ended before it could be killed");
        child = start();
    }
    child
}

/// Everything is there once, and as the records say.
async fn verify(db: &Db, truth: &Network) {
    assert_eq!(rows(db).await, truth.events);
    assert_eq!(event_attendee::Entity::find().count(db.read()).await.unwrap(), truth.answers as u64);
    assert_eq!(records(db).await, truth.lines.len() as u64);
}

async fn rows(db: &Db) -> Vec<Row> {
    let events = event::Entity::find().all(db.read()).await.unwrap();
    let row = |event: event::Model| Row {
        uri: event.record_uri.unwrap(),
        cid: event.record_cid.unwrap(),
        name: event.name,
        counts: [event.confirmed_count, event.maybe_count, event.cancelled_count],
    };
    let mut rows: Vec<Row> = events.into_iter().map(row).collect();
    rows.sort();
    rows
}

/// What a subscriber saw is the whole log, each change once, in its order.
async fn verify_subscriber(db: &Db, test: &TestDb, seen: &Seen) {
    let logged = logged(db.read(), test.tenant).await;
    assert!(seen.changes == logged, "{} changes were seen, {} are logged", seen.changes.len(), logged.len());
    let created = logged.iter().filter(|change| change.operation == ChangeOperation::Created).count();
    assert_eq!(created, EVENTS);
}

async fn replay_is_killed(test: &TestDb, kills: u64) {
    let truth = network(1, EVENTS, RSVPS);
    let program = Program::over(&test.url);
    let file = program.file(&truth.lines);
    let file = file.to_str().unwrap();
    let db = test.connect_again().await;
    let (end, told) = watch::channel(None);
    let subscriber = subscribe(Program::over(&test.url), told);

    let last = kill_again_and_again(&db, kills, || program.start(&["replay", file]));
    let last = tokio::time::timeout(NEVER, last).await.expect("the replays get on");
    let ended = last.wait_with_output().await.unwrap();
    assert!(ended.status.success());
    verify(&db, &truth).await;
    // Once more, whole: nothing is news.
    let summary = program.replay(file.as_ref()).await;
    assert!(summary.contains("\napplied 0\nunchanged 20000\nparked 0"), "{summary}");
    verify(&db, &truth).await;

    end.send_replace(Some(change::head(db.read()).await.unwrap()));
    let seen = tokio::time::timeout(NEVER, subscriber).await.expect("the subscriber arrives at the end").unwrap();
    assert!(seen.restarts >= 5, "the server was killed only {} times", seen.restarts);
    verify_subscriber(&db, test, &seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_loses_and_doubles_nothing_on_sqlite() {
    let test = sqlite().await;
    replay_is_killed(&test, 12).await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_loses_and_doubles_nothing_on_postgres() {
    let Some(test) = postgres().await else { return };
    replay_is_killed(&test, 8).await;
    test.discard().await;
}

/// The stream, its cursor and the queue, instead of a file that can be read again from the start.
async fn serving_is_killed(test: &TestDb, kills: u64) {
    let truth = network(2, EVENTS, RSVPS);
    let stream = jetstream::serve(truth.lines.clone()).await;
    let program = Program::over(&test.url)
        .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
        .with("GATEWAY_STREAMS__START", "oldest");
    let db = test.connect_again().await;
    let start = || program.start(&["serve", "--roles", "firehose,process"]);
    let mut last = tokio::time::timeout(NEVER, kill_again_and_again(&db, kills, start)).await.expect("it gets on");
    let arrived = async {
        // The leases of those who were killed have to end first.
        while records(&db).await < truth.lines.len() as u64 || answers_are_missing(&db, &truth).await {
            assert_eq!(last.try_wait().unwrap(), None, "it ended by itself");
            tokio::time::sleep(LOOK * 50).await;
        }
    };
    tokio::time::timeout(NEVER, arrived).await.expect("everything arrives");
    assert!(kill(last).await);
    verify(&db, &truth).await;
    assert!(stream.connections() > kills, "each start resumes the stream");
}

async fn answers_are_missing(db: &Db, truth: &Network) -> bool {
    let shown = event_attendee::Entity::find().filter(event_attendee::Column::IsHidden.eq(false));
    shown.count(db.read()).await.unwrap() < truth.answers as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_and_doubles_nothing_on_sqlite() {
    let test = sqlite().await;
    serving_is_killed(&test, 10).await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_and_doubles_nothing_on_postgres() {
    let Some(test) = postgres().await else { return };
    serving_is_killed(&test, 6).await;
    test.discard().await;
}
