//! Records that nobody should write and somebody will: each is applied or parked with a reason, by the real program, which
//! neither panics nor grows.

mod mutation;

use std::{collections::BTreeMap, process::Output, time::Duration};

use entities::{event, event_attendee, identity, ingest_failure, source_record, user};
use fastrand::Rng;
use sea_orm::EntityTrait;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use self::mutation::{huge, message};
use crate::support::{
    database::{TestDb, on_each_database, postgres, sqlite},
    process::Program,
    records::{BEGINNING, EVENT, cid_of, commit, did, event as good_event, tid},
};

/// What the process may use at its peak.
const MOST_MEMORY_KIB: u64 = 200 * 1024;
/// Records of about a megabyte, one after the other.
const HUGE: usize = 200;
const LOOK: Duration = Duration::from_millis(5);

/// Replays messages through standard input; how the program ended, and its greatest memory in KiB.
async fn replay(program: &Program, messages: impl Iterator<Item = Vec<u8>> + Send + 'static) -> (Output, u64) {
    let mut child = program.command(&["replay", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let writer = tokio::spawn(async move {
        for mut message in messages {
            message.push(b'\n');
            // A program that has ended says why.
            if input.write_all(&message).await.is_err() {
                return;
            }
        }
    });
    let watcher = tokio::spawn(async move {
        let mut peak = 0;
        while let Ok(text) = tokio::fs::read_to_string(&status).await {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            // A process that has ended and is not yet waited for has no memory.
            let Some(line) = line else { break };
            peak = line.trim().trim_end_matches("kB").trim().parse().unwrap();
            tokio::time::sleep(LOOK).await;
        }
        peak
    });
    let ended = child.wait_with_output().await.unwrap();
    writer.await.unwrap();
    (ended, watcher.await.unwrap())
}

/// The numbers of a summary by their names.
fn summary(ended: &Output) -> BTreeMap<String, u64> {
    let text = std::str::from_utf8(&ended.stdout).unwrap();
    let number = |line: &str| line.trim().split_once(' ').map(|(name, n)| (name.to_owned(), n.parse().unwrap()));
    text.lines().map(|line| number(line).unwrap()).collect()
}

async fn survive(test: &TestDb, count: usize) {
    let program = Program::over(&test.url);
    let mut rng = Rng::with_seed(count as u64);
    let messages = (0..count).map(move |number| {
        if (count / 2..count / 2 + HUGE).contains(&number) { huge(&mut rng, number) } else { message(&mut rng, number) }
    });
    let (ended, peak) = replay(&program, messages).await;
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{log}");
    assert!(!log.contains("panic"), "{log}");
    let summary = summary(&ended);
    assert_eq!(summary["read"], count as u64);
    assert_eq!(summary["read"], summary["applied"] + summary["unchanged"] + summary["parked"], "{summary:?}");
    let codes: u64 = summary.iter().filter(|(name, _)| name.to_uppercase() == **name).map(|(_, count)| count).sum();
    assert_eq!(codes, summary["parked"], "{summary:?}");
    // The database has nothing to complain about: what it would refuse is found before.
    assert!(!summary.contains_key("INTERNAL"), "{summary:?}");

    // Everything that was written can be read.
    let db = test.db.read();
    let parked = ingest_failure::Entity::find().all(db).await.unwrap();
    assert!(parked.len() as u64 <= summary["parked"] && parked.len() > count / 10);
    for row in parked {
        let about = (&row.stage, &row.code, &row.reason);
        assert!(!row.stage.is_empty() && !row.code.is_empty() && !row.payload.is_empty(), "{about:?}");
    }
    let records = source_record::Entity::find().all(db).await.unwrap().len();
    let events = event::Entity::find().all(db).await.unwrap().len();
    event_attendee::Entity::find().all(db).await.unwrap();
    identity::Entity::find().all(db).await.unwrap();
    user::Entity::find().all(db).await.unwrap();
    assert!(records > count / 4 && events > count / 20, "{records} records, {events} events");
    assert!(peak < MOST_MEMORY_KIB, "{peak} KiB, {summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_hostile_messages_are_applied_or_parked_on_sqlite() {
    let test = sqlite().await;
    survive(&test, 100_000).await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hostile_messages_are_applied_or_parked_on_postgres() {
    let Some(test) = postgres().await else { return };
    survive(&test, 10_000).await;
    test.discard().await;
}

/// A version of the same event; without a name nothing can be made of it.
fn version(number: usize, has_name: bool) -> String {
    let at = BEGINNING + i64::try_from(number).unwrap();
    let mut record = good_event(&mut Rng::with_seed(7), number, BEGINNING);
    if !has_name {
        record["name"] = Value::Null;
    }
    commit(&did(7, 7), at, &tid(at, 1), EVENT, "self", Some((&cid_of(&record.to_string()), &record)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_can_be_listed_retried_and_discarded() {
    on_each_database(async |test| {
        let program = Program::over(&test.url);
        program.replay(&program.file([version(1, false), version(2, false), "nonsense".to_owned()])).await;
        let list = async |arguments: &[&str]| -> Vec<Value> {
            let ended = program.run(&[&["failures", "list"], arguments].concat()).await;
            assert!(ended.status.success());
            let text = String::from_utf8(ended.stdout).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let all = list(&[]).await;
        let mut reasons: Vec<_> = all.iter().map(|row| (row["stage"].as_str(), row["code"].as_str())).collect();
        reasons.sort_unstable();
        let nameless = (Some("map"), Some("EVENT_NAME_MISSING"));
        assert_eq!(reasons, [nameless, nameless, (Some("receive"), Some("MESSAGE_MALFORMED"))]);
        let first = all.iter().find(|row| row["payload"] == version(1, false)).unwrap();
        assert_eq!(first["uri"], format!("at://{}/{EVENT}/self", did(7, 7)));
        assert_eq!(list(&["--limit", "1"]).await.len(), 1);
        assert_eq!(list(&["--did", &did(7, 7)]).await.len(), 2);

        // The newer version is still what it was: the older one is overtaken, so only the other stays a failure.
        let retried = program.run(&["failures", "retry", "--code", "MESSAGE_MALFORMED"]).await;
        assert_eq!(retried.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&retried.stdout), "resolved 0\nparked 1\n");
        program.replay(&program.file([version(3, true)])).await;
        let retried = program.run(&["failures", "retry", "--did", &did(7, 7)]).await;
        assert!(retried.status.success());
        assert_eq!(String::from_utf8_lossy(&retried.stdout), "resolved 2\nparked 0\n");
        let left = list(&[]).await;
        assert_eq!((left.len(), &left[0]["attempts"]), (1, &2.into()));

        // All of it is a lot: it has to be said.
        assert!(!program.run(&["failures", "discard"]).await.status.success());
        let discarded = program.run(&["failures", "discard", "--all"]).await;
        assert_eq!(String::from_utf8_lossy(&discarded.stdout), "discarded 1\n");
        program.replay(&program.file(["nonsense"])).await;
        assert!(list(&[]).await.is_empty(), "what was discarded does not come back");
    })
    .await;
}
