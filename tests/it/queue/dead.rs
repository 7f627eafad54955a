//! Dead letters on their way into the failure list, and back.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

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
    error::Error,
    infra::{
        clock::Clock,
        db::lock,
        queue::{BrokerSettings, Queue, Topic},
    },
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::sync::Notify;

use super::{
    broker::{self, TestBroker},
    place::{PATIENCE, take},
    rabbit::with,
};
use crate::support::{
    app::TestApp,
    database::{TestDb, on_each_database, postgres},
};

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
    let lock = app.kv.lock("collect", PATIENCE).await.unwrap().expect("nobody else collects");
    let mut collected = 0;
    while collected < count {
        assert!(started.elapsed() < PATIENCE, "only {collected} of {count} letters came");
        collected += failure::collect(app, queue, &lock.fence()).await.unwrap();
        queue.wait().await;
    }
    assert_eq!(failure::collect(app, queue, &lock.fence()).await.unwrap(), 0);
    assert!(lock.release().await.unwrap());
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

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_dies_while_it_is_put_back_stays_in_the_list() {
    let Some(test) = postgres().await else { return };
    let gateway = TestApp::open(&test).await;
    let app = &gateway.app;
    let body = r#"{"did":"did:plc:poison","kind":"commit"}"#.to_owned();
    let died = Error::bug(anyhow::anyhow!("it died"));
    failure::give_up(app, Stage::Queue, &body, &died).await.unwrap();
    // Whoever decides about it, or parks it, waits.
    let other = test.connect_again().await;
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, told) = (Arc::clone(&begun), Arc::clone(&end));
    let holding = tokio::spawn(async move {
        let work = other.transact(|tx| {
            let (telling, told) = (Arc::clone(&telling), Arc::clone(&told));
            async move {
                lock(&*tx, &failure::LOCK).await?;
                telling.notify_one();
                told.notified().await;
                Ok(())
            }
        });
        work.await.unwrap();
    });
    begun.notified().await;

    let dying = {
        let (app, body) = (app.clone(), body.clone());
        async move { failure::give_up(&app, Stage::Queue, &body, &died).await }
    };
    let dying = tokio::spawn(dying);
    waiting(&test, 1).await;
    let choice = Choice { filter: Filter::parked(), after: 0, limit: 9, is_dry_run: false, patience: None };
    let retrying = {
        let app = app.clone();
        async move { failure::retry(&app, &Actor::Operator, &choice).await }
    };
    let retrying = tokio::spawn(retrying);
    waiting(&test, 2).await;
    end.notify_one();
    holding.await.unwrap();
    dying.await.unwrap().unwrap();
    let decided = retrying.await.unwrap().unwrap();
    assert!(matches!(decided.results[0].became, Became::Requeued));
    let failure = &decided.results[0].failure;
    assert_eq!((failure.state, failure.attempts), (FailureState::Parked, 2), "it is not done");
    let history = failure::history(app, &Actor::Operator, failure.id).await.unwrap();
    assert!(history.iter().all(|entry| entry.state == FailureState::Parked), "{history:?}");

    // The same without anybody in between.
    let choice = Choice { filter: Filter::parked(), after: 0, limit: 9, is_dry_run: false, patience: None };
    let decided = failure::retry(app, &Actor::Operator, &choice).await.unwrap();
    assert_eq!(decided.results[0].failure.state, FailureState::Resolved);
    drop(gateway);
    test.discard().await;
}

/// Returns when so many transactions wait for locks.
async fn waiting(test: &TestDb, count: i64) {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let started = Instant::now();
    loop {
        let asked = Statement::from_string(DbBackend::Postgres, sql);
        let row = test.db.read().query_one_raw(asked).await.unwrap().unwrap();
        if row.try_get_by_index::<i64>(0).unwrap() == count {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "nobody waits");
        tokio::task::yield_now().await;
    }
}
