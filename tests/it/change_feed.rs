//! The live feed: every subscriber sees every change exactly once and in order.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::{sync::Arc, time::Duration};

use entities::sets::{ChangeOperation, EventStatus, EventVisibility};
use futures_util::{Stream, StreamExt, future::join_all};
use gateway::{
    domain::{
        change::{Change, Cursor, Feed, FeedSettings, Filter, LOCK, head},
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::{
        db::{Db, lock},
        kv::Bell,
    },
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbBackend};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{
    changes::{commit, event, row, rows},
    database::{TestDb, on_each_database},
};

/// Far more than any of this takes: a change that never comes must not hang the run.
const NEVER: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_miss_nothing_while_writers_commit_out_of_order() {
    const WRITERS: usize = 8;
    const COMMITS: usize = 30;
    const READERS: usize = 12;
    on_each_database(async |test| {
        let here = running(test.db.clone(), test.tenant, 250, 64);
        // Another process on the same database: nobody rings there.
        let there = running(test.connect_again().await, test.tenant, 5, 8);
        let start = head(test.db.read()).await.unwrap();
        let (count, _) = watch::channel(usize::MAX);

        let readers = (0..READERS).map(|number| {
            let feeds = [here.feed.clone(), there.feed.clone()];
            tokio::spawn(read_with_interruptions(feeds, start, count.subscribe(), number as u64))
        });
        let readers: Vec<_> = readers.collect();
        let writers = (0..WRITERS).map(|number| write(test, &here.feed, number, COMMITS));
        let mut written: Vec<i64> = join_all(writers).await.into_iter().flatten().collect();
        written.sort_unstable();
        count.send_replace(written.len());

        for reader in readers {
            let seen = tokio::time::timeout(NEVER, reader).await.expect("a change is missing").unwrap();
            assert_eq!(seen, written);
        }
    })
    .await;
}

/// Commits changes the way the persist stage does, dawdling where it may: transactions begin in any order, take their
/// turn, wait between the insert and the commit, and some are undone, which leaves holes among the ids.
async fn write(test: &TestDb, feed: &Feed, number: usize, commits: usize) -> Vec<i64> {
    let mut written = Vec::new();
    for commit in 0..commits {
        let rows = fastrand::usize(1..=3);
        let dawdle = || tokio::time::sleep(Duration::from_micros(fastrand::u64(0..8_000)));
        dawdle().await;
        let undo = (number + commit).is_multiple_of(5);
        let outcome = test
            .db
            .transact(|tx| async move {
                dawdle().await;
                lock(&*tx, &LOCK).await?;
                let mut ids = Vec::new();
                for _ in 0..rows {
                    ids.push(row(test.tenant, 1).insert(&*tx).await?.id);
                }
                dawdle().await;
                if undo { Err(Error::invalid("test", "UNDONE", "so it was meant")) } else { Ok(ids) }
            })
            .await;
        match outcome {
            Ok(ids) => written.extend(ids),
            Err(error) => assert_eq!(error.reason(), "UNDONE", "{}", error.chain()),
        }
        feed.ring();
    }
    written
}

/// Reads until it has seen as many changes as were written in the end, leaving and coming back with its last cursor, now
/// here, now there.
async fn read_with_interruptions(
    feeds: [Feed; 2],
    start: Cursor,
    mut count: watch::Receiver<usize>,
    number: u64,
) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut cursor = start;
    let mut seen = Vec::new();
    loop {
        let feed = &feeds[random.usize(0..2)];
        let mut changes = Box::pin(feed.subscribe(Filter::default(), Some(cursor)).await.unwrap());
        for _ in 0..random.usize(0..40) {
            let change = tokio::select! {
                biased;
                _ = count.wait_for(|count| *count <= seen.len()) => return seen,
                change = changes.next() => change.unwrap().unwrap(),
            };
            // As a client keeps it.
            cursor = change.cursor().to_string().parse().unwrap();
            seen.push(change.row.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_without_a_cursor_sees_what_comes() {
    on_each_database(async |test| {
        let running = running(test.db.clone(), test.tenant, 10, 64);
        commit(&test.db, rows(test.tenant, 3)).await.unwrap();
        // Twice: the second time the tail has slept, for want of subscribers, while the log went on.
        for _ in 0..2 {
            let mut changes = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
            let written = commit(&test.db, rows(test.tenant, 4)).await.unwrap();
            assert_eq!(take(&mut changes, 4).await, written);
            drop(changes);
            commit(&test.db, rows(test.tenant, 5)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_lags_falls_back_to_the_log() {
    on_each_database(async |test| {
        let running = running(test.db.clone(), test.tenant, 10, 4);
        let everything = Filter::default();
        let wanted = Filter { operation: Some(vec![ChangeOperation::Deleted]), ..Filter::default() };
        let mut slow = Box::pin(running.feed.subscribe(everything.clone(), None).await.unwrap());
        let mut choosy = Box::pin(running.feed.subscribe(wanted, None).await.unwrap());
        let mut witness = Box::pin(running.feed.subscribe(everything, None).await.unwrap());
        let mut written = Vec::new();
        let mut deleted = Vec::new();
        for batch in 0..4 {
            let mut batch_rows = rows(test.tenant, 700);
            batch_rows[batch].operation = Set(ChangeOperation::Deleted);
            let ids = commit(&test.db, batch_rows).await.unwrap();
            deleted.push(ids[batch]);
            written.extend(ids);
            running.feed.ring();
        }
        // The ring holds four of them, so by now it has passed over the others.
        assert_eq!(take(&mut witness, written.len()).await, written);
        assert_eq!(take(&mut slow, written.len()).await, written);
        assert_eq!(take(&mut choosy, deleted.len()).await, deleted);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_outlives_its_connections() {
    on_each_database(async |test| {
        if test.db.backend() != DbBackend::Postgres {
            return;
        }
        let other = test.connect_again().await;
        let running = running(test.db.clone(), test.tenant, 10, 16);
        let mut changes = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
        for _ in 0..3 {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
            other.read().execute_unprepared(kill).await.unwrap();
            let written = commit(&other, rows(test.tenant, 5)).await;
            let written = match written {
                Ok(written) => written,
                // The pool may hand out a connection that has just been cut.
                Err(_) => commit(&other, rows(test.tenant, 5)).await.unwrap(),
            };
            assert_eq!(take(&mut changes, 5).await, written);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_ends_subscriptions_with_an_error() {
    on_each_database(async |test| {
        let running = running(test.db.clone(), test.tenant, 10, 16);
        let mut changes = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
        running.shutdown.cancel();
        let last = tokio::time::timeout(NEVER, changes.next()).await.unwrap().unwrap();
        assert!(matches!(last, Err(Error::Unavailable { service: "shutdown", .. })));
        assert!(changes.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_change_carries_its_event_only_while_everybody_may_see_it() {
    on_each_database(async |test| {
        let visible = event(&test.db, test.tenant, "a", |_| {}).await;
        let hidden = event(&test.db, test.tenant, "b", |event| event.is_hidden = Set(true)).await;
        let unlisted =
            event(&test.db, test.tenant, "c", |event| event.visibility = Set(EventVisibility::Unlisted)).await;
        let draft = event(&test.db, test.tenant, "d", |event| event.status = Set(EventStatus::Draft)).await;
        let running = running(test.db.clone(), test.tenant, 10, 16);
        let start = head(test.db.read()).await.unwrap();
        let mut live = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
        let ids = [visible, hidden, unlisted, draft, visible, visible + 1_000];
        commit(&test.db, ids.iter().map(|id| row(test.tenant, *id)).collect()).await.unwrap();
        let mut replayed = Box::pin(running.feed.subscribe(Filter::default(), Some(start)).await.unwrap());
        for (index, id) in ids.into_iter().enumerate() {
            for changes in [&mut live as &mut (dyn Stream<Item = Result<Arc<Change>>> + Unpin), &mut replayed] {
                let change = tokio::time::timeout(NEVER, changes.next()).await.unwrap().unwrap().unwrap();
                assert_eq!(change.row.event_id, id);
                assert_eq!(change.event.as_ref().map(|event| event.id), (id == visible).then_some(id), "{index}");
            }
        }
    })
    .await;
}

struct Running {
    feed: Feed,
    shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn running(db: Db, tenant: Tenant, poll_milliseconds: u64, retain: usize) -> Running {
    let feed = Feed::new(
        db,
        tenant,
        Bell::within_process(),
        FeedSettings { poll: Duration::from_millis(poll_milliseconds), retain },
    );
    let shutdown = CancellationToken::new();
    tokio::spawn(feed.clone().run(shutdown.clone()));
    Running { feed, shutdown }
}

async fn take(changes: &mut (impl Stream<Item = Result<Arc<Change>>> + Unpin), count: usize) -> Vec<i64> {
    let some = changes.take(count).map(|change| change.unwrap().row.id).collect();
    tokio::time::timeout(NEVER, some).await.expect("a change is missing")
}
