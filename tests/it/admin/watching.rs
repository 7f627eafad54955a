//! Following what happens to messages that were put aside.

use std::time::Duration;

use futures_util::StreamExt;
use gateway::domain::{
    actor::Actor,
    ingest::{
        Stage,
        failure::{self, Choice, Cursor, Entry, Filter, Watched},
    },
    key::SOURCES,
};
use serde_json::json;

use super::event;
use crate::support::{
    app::TestApp,
    database::{on_each_database, sqlite},
    graphql::GraphQl,
    process::{Program, kill},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const WATCH: &str = "subscription ($after: StreamCursor, $filter: IngestFailureChangeFilter) {
    ingestFailureChanged(after: $after, filter: $filter) {
        cursor entry { state code } failure { attempts payload { text } }
    }
}";

#[tokio::test]
async fn nothing_that_happens_is_missed_in_another_process_either() {
    on_each_database(async |database| {
        let (here, there) = (TestApp::open(database).await, TestApp::open(database).await);
        here.submit(&["before".to_owned()]).await;
        let watch = async |watched: Watched, after: Option<Cursor>| {
            failure::watch(&here.app, &Actor::Operator, watched, after).await
        };
        let mut live = Box::pin(watch(Watched::default(), None).await.unwrap());
        let mut of_map =
            Box::pin(watch(Watched { stages: Some(vec![Stage::Map]), ..Watched::default() }, None).await.unwrap());
        there.submit(&["one".to_owned(), event(1, 1, None)]).await;
        let choice = Choice { filter: Filter::default(), after: 0, limit: 9, is_dry_run: false, patience: None };
        failure::discard(&there.app, &Actor::Operator, &choice, "enough").await.unwrap();
        let mut seen: Vec<Entry> = Vec::new();
        while seen.len() < 5 {
            seen.push(tokio::time::timeout(PATIENCE, live.next()).await.expect("it comes").unwrap().unwrap());
        }
        let states: Vec<&str> = seen.iter().map(|entry| entry.state.as_str()).collect();
        assert_eq!(states, ["parked", "parked", "discarded", "discarded", "discarded"]);
        assert!(seen.is_sorted_by_key(|entry| entry.id));
        for expected in ["parked", "discarded"] {
            let entry = tokio::time::timeout(PATIENCE, of_map.next()).await.expect("it comes").unwrap().unwrap();
            assert_eq!((entry.state.as_str(), entry.stage.as_str()), (expected, "map"));
        }
        // Whoever comes back goes on behind what it saw.
        let mut resumed = Box::pin(watch(Watched::default(), Some(Cursor::of(&seen[1]))).await.unwrap());
        for entry in &seen[2..] {
            assert_eq!(resumed.next().await.unwrap().unwrap(), *entry);
        }
        let far: Cursor = "ZjE6OTk5OTk".parse().unwrap();
        assert_eq!(watch(Watched::default(), Some(far)).await.err().unwrap().reason(), "CURSOR_INVALID");
        // Once what came after a cursor is forgotten, it says so.
        let later = here.app.clock.now() + chrono::TimeDelta::days(1);
        let db = &here.app.db;
        db.transact(|tx| async move { failure::clear(&*tx, later, Duration::ZERO).await }).await.unwrap();
        let expired = watch(Watched::default(), Some(Cursor::of(&seen[1]))).await.err().unwrap();
        assert_eq!(expired.reason(), "CURSOR_EXPIRED");
        let last = watch(Watched::default(), Some(Cursor::of(&seen[4]))).await;
        let mut last = Box::pin(last.unwrap());
        there.submit(&["afterwards".to_owned()]).await;
        let entry = tokio::time::timeout(PATIENCE, last.next()).await.expect("it comes").unwrap().unwrap();
        assert!(entry.id > seen[4].id, "ids are never used again");
        assert!(failure::watch(&here.app, &Actor::Anonymous, Watched::default(), None).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_follows_until_its_key_is_revoked() {
    let test = sqlite().await;
    let app = TestApp::open(&test).await;
    let (key, other) = (app.key(&SOURCES, true).await, app.key(&SOURCES, true).await);
    let program = Program::over(&test.url);
    let (child, address) = program.serve_api().await;
    let api = GraphQl::new(address.parse().unwrap());
    let filter = json!({ "filter": { "state": ["PARKED"], "code": ["EVENT_NAME_MISSING"] } });
    let mut following = api.subscribe_as(&key, WATCH, &filter).await;
    // It begins when the first event comes, which is sent until it does.
    let seen = async {
        let mut revision = 0;
        loop {
            revision += 1;
            app.submit(&["nonsense".to_owned(), event(1, revision, None)]).await;
            tokio::select! {
                seen = following.next() => return (seen, revision),
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
        }
    };
    let (seen, _) = tokio::time::timeout(PATIENCE, seen).await.expect("it is told");
    assert_eq!(seen["ingestFailureChanged"]["entry"]["code"], "EVENT_NAME_MISSING");
    assert!(seen["ingestFailureChanged"]["failure"]["payload"]["text"].as_str().unwrap().contains("did:plc:"));

    let mut resumed =
        api.subscribe_as(&other, WATCH, &json!({ "after": seen["ingestFailureChanged"]["cursor"] })).await;
    let prefix = key.rsplit_once('_').unwrap().0;
    assert!(program.run(&["keys", "revoke", prefix]).await.status.success());
    let ended = async { while following.next_or_end().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it is closed");
    assert_eq!(following.closed, Some(4401));
    // The other one goes on.
    app.submit(&["a late one".to_owned()]).await;
    let late = async {
        loop {
            let seen = resumed.next().await;
            if seen["ingestFailureChanged"]["failure"]["payload"]["text"] == "a late one" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, late).await.expect("it is told");
    kill(child).await;
    test.discard().await;
}
