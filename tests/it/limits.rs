//! How long the database is waited for: by others for a lock, by the server for us, and by us for the server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gateway::{
    error::{Class, Error, Result},
    infra::db::{Db, DbSettings, lock},
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use tokio::sync::Barrier;

use crate::support::{
    database::{TestDb, postgres},
    proxy::Proxy,
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Within this time nobody waits for a server any more that is away, and all goes on when it is back.
const SOON: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 3;

/// What one row of one column says.
async fn ask<T: sea_orm::TryGetable>(db: &impl ConnectionTrait, sql: &str) -> Result<T> {
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?.expect("a row");
    Ok(row.try_get_by_index(0)?)
}

async fn connect(url: String) -> Db {
    Db::connect(&DbSettings { url, max_connections: CONNECTIONS }).await.unwrap()
}

/// A connection of somebody else, without our limits.
async fn stranger(test: &TestDb) -> DatabaseConnection {
    Database::connect(&test.url).await.unwrap()
}

fn is_away<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Unavailable { service: "database", .. }))
}

#[tokio::test]
async fn a_lock_that_does_not_come_is_no_mistake_of_who_waits_for_it() {
    let Some(test) = postgres().await else { return };
    let millis = "SELECT setting::bigint FROM pg_settings WHERE name = ";
    let mut limits = Vec::new();
    for name in ["idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"] {
        limits.push(ask::<i64>(test.db.read(), &format!("{millis}'{name}'")).await.unwrap());
    }
    // Who stands still lets go before others give up waiting, and they do before their statement is stopped.
    assert!(limits[0] > 0 && limits.is_sorted_by(|one, next| one < next), "{limits:?}");

    let other = stranger(&test).await;
    let holding = other.begin().await.unwrap();
    lock(&holding, &["a", "b"]).await.unwrap();
    for (limit, work) in [("lock_timeout", "lock"), ("statement_timeout", "lock"), ("statement_timeout", "sleep")] {
        let outcome = test.db.transact(|tx| async move {
            tx.execute_unprepared(&format!("SET LOCAL {limit} = '100ms'")).await?;
            match work {
                "lock" => lock(&*tx, &["a", "b"]).await,
                _ => tx.execute_unprepared("SELECT pg_sleep(60)").await.map(drop).map_err(Error::from),
            }
        });
        let error = outcome.await.unwrap_err();
        // A statement that took too long takes as long the next time.
        let class = if work == "lock" { Class::System } else { Class::Retryable };
        assert_eq!(error.class(), class, "{limit}, {work}: {}", error.chain());
    }
    holding.rollback().await.unwrap();
    drop(other);
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_still_in_a_transaction_loses_what_it_has_locked() {
    let Some(test) = postgres().await else { return };
    let other = stranger(&test).await;
    let outcome = test.db.transact(|tx| {
        let other = &other;
        async move {
            tx.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = '100ms'").await?;
            lock(&*tx, &["a"]).await?;
            // Nothing is said here until somebody else has it.
            let waiting = other.begin().await?;
            lock(&waiting, &["a"]).await?;
            waiting.rollback().await?;
            ask::<i32>(&*tx, "SELECT 1").await
        }
    });
    let outcome = tokio::time::timeout(PATIENCE, outcome).await.expect("it lets go");
    assert!(is_away(&outcome), "{outcome:?}");
    assert_eq!(test.db.transact(|tx| async move { ask::<i32>(&*tx, "SELECT 1").await }).await.unwrap(), 1);
    drop(other);
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_all_cut_cost_one_reader_and_no_more() {
    let Some(test) = postgres().await else { return };
    let db = connect(test.url.clone()).await;
    // So many are open.
    let together = &Barrier::new(usize::try_from(CONNECTIONS).unwrap());
    let one = |_| {
        db.transact(move |tx| async move {
            together.wait().await;
            ask::<i32>(&*tx, "SELECT pg_backend_pid()").await
        })
    };
    let open: Vec<i32> = join_all((0..CONNECTIONS).map(one)).await.into_iter().collect::<Result<_, _>>().unwrap();
    // As when the server is started again.
    let list = open.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let cut = format!("SELECT count(pg_terminate_backend(pid, 10000)) FROM unnest(ARRAY[{list}]) AS pid");
    let other = stranger(&test).await;
    assert_eq!(ask::<i64>(&other, &cut).await.unwrap(), i64::from(CONNECTIONS));
    let mut failed = 0;
    for _ in 0..=CONNECTIONS {
        failed += u32::from(ask::<i32>(db.read(), "SELECT 1").await.is_err());
    }
    assert!(failed <= 1, "{failed} of {CONNECTIONS} were found out by somebody's statement");
    drop((db, other));
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_ends_when_the_server_vanishes_and_goes_on_when_it_is_back() {
    let Some(test) = postgres().await else { return };
    let proxy = Proxy::before(&test.url).await;
    let db = connect(proxy.url()).await;
    // All connections are in the middle of a transaction.
    let together = &Barrier::new(usize::try_from(CONNECTIONS).unwrap());
    let one = |number: u32| {
        let (db, proxy) = (&db, &proxy);
        db.transact(move |tx| async move {
            ask::<i32>(&*tx, "SELECT 1").await?;
            if together.wait().await.is_leader() {
                proxy.fall_silent();
            }
            // Some ask once more, some have only to commit.
            if number > 0 { ask::<i32>(&*tx, "SELECT 2").await } else { Ok(2) }
        })
    };
    let begun = Instant::now();
    let outcomes = join_all((0..CONNECTIONS).map(one)).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(outcomes.iter().all(is_away), "{outcomes:?}");
    while db.circuit().is_closed() {
        let outcome = db.transact(|_| async { Ok(()) }).await;
        assert!(is_away(&outcome) && begun.elapsed() < PATIENCE, "{outcome:?}");
    }

    // Nobody hangs up the connections that were open.
    proxy.speak();
    let back = Instant::now();
    while let Err(error) = db.transact(|_| async { Ok(()) }).await {
        assert!(back.elapsed() < SOON, "{}", error.chain());
        tokio::task::yield_now().await;
    }
    // As many at once as there are places, so that none is taken by a connection that is lost.
    let together = &Barrier::new(usize::try_from(CONNECTIONS).unwrap());
    let one = |_| {
        db.transact(move |_| async move {
            together.wait().await;
            Ok(())
        })
    };
    let all = tokio::time::timeout(SOON, join_all((0..CONNECTIONS).map(one))).await.expect("all places are free");
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    drop(proxy);
    test.discard().await;
}
