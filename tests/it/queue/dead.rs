//! Dead letters on their way into the failure list, and back.

use std::{collections::BTreeSet, time::Instant};

use entities::sets::FailureState;
use gateway::{
    app::App,
    config,
    domain::{
        actor::Actor,
        ingest::{
            Stage,
            failure::{self, Became, Choice, Filter},
        },
    },
    infra::{
        clock::Clock,
        queue::{BrokerSettings, Queue, Topic},
    },
};

use super::{
    broker::{self, TestBroker},
    place::{PATIENCE, take},
    rabbit::with,
};
use crate::support::database::{TestDb, on_each_database};

/// The program over a database and a broker, as its configuration would open both.
async fn open(test: &TestDb, broker: &BrokerSettings) -> App {
    let settings = format!(
        "database = {{ url = {:?}, max_connections = 4 }}
        streams = {{ endpoints = [] }}
        queue = {{ url = {:?}, prefix = {:?}, partitions = {} }}",
        test.url, broker.url, broker.prefix, broker.partitions
    );
    let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

/// Collects until so many letters were there.
async fn collect(app: &App, queue: &Queue, count: usize) {
    let started = Instant::now();
    let mut collected = 0;
    while collected < count {
        assert!(started.elapsed() < PATIENCE, "only {collected} of {count} letters came");
        collected += failure::collect(app, queue).await.unwrap();
        queue.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_parked_and_go_back_into_their_queue() {
    on_each_database(async |test| {
        let mut broker = TestBroker::new(broker::url()).await;
        // What the program itself declares.
        broker.settings = BrokerSettings { prefix: broker.settings.prefix, partitions: 2, ..BrokerSettings::default() };
        broker.settings.url = broker::url();
        with(broker, async |broker| {
            let app = open(test, &broker.settings).await;
            let queue = app.queues().await.unwrap().of(Topic::Records);
            // Only who needs the broker declares what is there.
            assert_eq!(queue.depth().await.unwrap().dead, 0);
            let body = r#"{"did":"did:plc:poison","kind":"commit"}"#;
            broker.bury(Topic::Records, Some("did:plc:poison"), body.as_bytes()).await;
            broker.bury(Topic::Records, None, b"not ours \xff\0").await;
            collect(&app, queue, 2).await;
            assert_eq!(failure::collect(&app, queue).await.unwrap(), 0);
            assert_eq!(queue.depth().await.unwrap().dead, 0);

            let dead = Filter { stages: Some(vec![Stage::Queue]), ..Filter::parked() };
            let rows = failure::following(&app, &Actor::Operator, &dead, 0, 9).await.unwrap();
            let codes: BTreeSet<(&str, &str)> =
                rows.iter().map(|row| (row.code.as_str(), row.payload.as_str())).collect();
            let expected = [("MESSAGE_POISONOUS", body), ("MESSAGE_UNREADABLE", "not ours \u{fffd}\u{fffd}")];
            assert_eq!(codes, expected.into());
            assert!(rows.iter().any(|row| row.did.as_deref() == Some("did:plc:poison")));

            let poison = Filter { codes: Some(vec!["MESSAGE_POISONOUS".to_owned()]), ..Filter::default() };
            let choice = Choice { filter: poison, after: 0, limit: 9, is_dry_run: false, patience: None };
            let decided = failure::retry(&app, &Actor::Operator, &choice).await.unwrap();
            assert!(matches!(decided.results[0].became, Became::Requeued));
            assert_eq!(decided.results[0].failure.state, FailureState::Resolved);
            let again = take(queue, 1).await;
            assert_eq!((again[0].key.as_str(), again[0].body.as_str(), again[0].attempts), ("did:plc:poison", body, 0));

            // It dies once more: the same message, parked once more.
            broker.bury(Topic::Records, Some("did:plc:poison"), body.as_bytes()).await;
            collect(&app, queue, 1).await;
            let rows = failure::following(&app, &Actor::Operator, &dead, 0, 9).await.unwrap();
            let row = rows.iter().find(|row| row.code == "MESSAGE_POISONOUS").unwrap();
            assert_eq!((rows.len(), row.attempts), (2, 2));
            let history = failure::history(&app, &Actor::Operator, row.id).await.unwrap();
            let states: Vec<&str> = history.iter().map(|entry| entry.state.as_str()).collect();
            assert_eq!(states, ["parked", "resolved", "parked"]);
        })
        .await;
    })
    .await;
}
