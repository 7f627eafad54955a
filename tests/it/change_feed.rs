//! The change log and the live feed: every subscriber sees every change exactly once and in order.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    change,
    location::{Links, Locations, Texts},
    sets::{ChangeOperation, EventMode, EventStatus, EventVisibility, SourceType},
};
use futures_util::{Stream, StreamExt, future::join_all};
use gateway::{
    domain::{
        change::{Change, Circle, Cursor, Feed, FeedSettings, Filter, Span, cut, head, page},
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db::{Db, lock},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait,
    IntoActiveModel, QueryOrder,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::database::{TestDb, on_each_database};

/// Far more than any of this takes: a change that never comes must not hang the run.
const NEVER: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_miss_nothing_while_writers_commit_out_of_order() {
    const WRITERS: usize = 8;
    const COMMITS: usize = 30;
    const READERS: usize = 12;
    on_each_database(async |test| {
        let here = running(test.db.clone(), test.tenant, 250, 64);
        // Another process on the same database: nobody rings there.
        let there = running(test.connect_again().await, test.tenant, 5, 8);
        let start = head(test.db.read(), test.tenant).await.unwrap();
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
            .transact(async |tx| {
                dawdle().await;
                lock(tx, &["change"]).await?;
                let mut ids = Vec::new();
                for _ in 0..rows {
                    ids.push(row(test.tenant, 1).insert(tx).await?.id);
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
    seed: u64,
) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(seed);
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
        commit(test, rows(test.tenant, 3)).await.unwrap();
        // Twice: the second time the tail has slept, for want of subscribers, while the log went on.
        for _ in 0..2 {
            let mut changes = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
            let written = commit(test, rows(test.tenant, 4)).await.unwrap();
            assert_eq!(take(&mut changes, 4).await, written);
            drop(changes);
            commit(test, rows(test.tenant, 5)).await.unwrap();
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
            let ids = commit(test, batch_rows).await.unwrap();
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
            let written = commit_in(&other, rows(test.tenant, 5)).await;
            let written = match written {
                Ok(written) => written,
                // The pool may hand out a connection that has just been cut.
                Err(_) => commit_in(&other, rows(test.tenant, 5)).await.unwrap(),
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
async fn a_cursor_expires_exactly_when_changes_after_it_are_deleted() {
    on_each_database(async |test| {
        let (db, tenant) = (test.db.read(), test.tenant);
        let everything = Filter::default();
        let (now, keep) = (instant(1_000_000), TimeDelta::days(1));
        let empty = head(db, tenant).await.unwrap();

        // A hole at the low end, where nothing was ever deleted: the very first cursor still holds.
        let undone = test
            .db
            .transact(async |tx| {
                row(tenant, 1).insert(tx).await?;
                Err::<(), _>(Error::invalid("test", "UNDONE", "so it was meant"))
            })
            .await;
        assert!(undone.is_err());
        let mut old = rows(tenant, 3);
        old.iter_mut().for_each(|row| row.ingested_at = Set(now - keep - TimeDelta::seconds(1)));
        let old = commit(test, old).await.unwrap();
        let mut young = rows(tenant, 2);
        young.iter_mut().for_each(|row| row.ingested_at = Set(now - keep));
        let young = commit(test, young).await.unwrap();
        let ids = |page: gateway::domain::change::Page| page.changes.iter().map(|row| row.id).collect::<Vec<_>>();
        let all: Vec<i64> = old.iter().chain(&young).copied().collect();
        let whole = page(db, tenant, Some(empty), &everything, 100).await.unwrap();
        let cursors: Vec<Cursor> = whole.changes.iter().map(Cursor::of).collect();
        assert_eq!(ids(whole), all);

        assert_eq!(test.db.transact(async |tx| cut(tx, tenant, now, keep).await).await.unwrap(), 3);
        assert_eq!(test.db.transact(async |tx| cut(tx, tenant, now, keep).await).await.unwrap(), 0);
        for lost in [empty, cursors[0], cursors[1]] {
            let error = page(db, tenant, Some(lost), &everything, 100).await.unwrap_err();
            assert_eq!(error.reason(), "CURSOR_EXPIRED");
        }
        // The last one that was deleted has nothing deleted after it.
        assert_eq!(ids(page(db, tenant, Some(cursors[2]), &everything, 100).await.unwrap()), young);
        assert_eq!(ids(page(db, tenant, None, &everything, 100).await.unwrap()), young);

        // An emptied log goes on where it ended.
        let later = now + TimeDelta::days(1);
        assert_eq!(test.db.transact(async |tx| cut(tx, tenant, later, keep).await).await.unwrap(), 2);
        let end = page(db, tenant, None, &everything, 100).await.unwrap();
        assert_eq!((end.changes.len(), end.end, end.has_more), (0, cursors[4], false));
        assert_eq!(head(db, tenant).await.unwrap(), cursors[4]);
        let next = commit(test, rows(tenant, 1)).await.unwrap();
        assert_eq!(ids(page(db, tenant, Some(end.end), &everything, 100).await.unwrap()), next);

        let running = running(test.db.clone(), tenant, 10, 16);
        let refused = running.feed.subscribe(everything.clone(), Some(cursors[0])).await;
        assert_eq!(refused.err().unwrap().reason(), "CURSOR_EXPIRED");
        let ahead = page(db, tenant, None, &everything, 100).await.unwrap().end;
        test.db.transact(async |tx| Ok(change::Entity::delete_by_id(next[0]).exec(tx).await?)).await.unwrap();
        let error = page(db, tenant, Some(ahead), &everything, 100).await.unwrap_err();
        assert_eq!(error.reason(), "CURSOR_INVALID");
    })
    .await;
}

#[tokio::test]
async fn a_change_carries_its_event_only_while_everybody_may_see_it() {
    on_each_database(async |test| {
        let visible = event(test, "a", |_| {}).await;
        let hidden = event(test, "b", |event| event.is_hidden = Set(true)).await;
        let unlisted = event(test, "c", |event| event.visibility = Set(EventVisibility::Unlisted)).await;
        let draft = event(test, "d", |event| event.status = Set(EventStatus::Draft)).await;
        let running = running(test.db.clone(), test.tenant, 10, 16);
        let start = head(test.db.read(), test.tenant).await.unwrap();
        let mut live = Box::pin(running.feed.subscribe(Filter::default(), None).await.unwrap());
        let ids = [visible, hidden, unlisted, draft, visible, visible + 1_000];
        commit(test, ids.iter().map(|id| row(test.tenant, *id)).collect()).await.unwrap();
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

#[tokio::test]
async fn pages_hold_what_the_filter_matches() {
    on_each_database(async |test| {
        let mut runner = TestRunner::deterministic();
        let strategy = any_row(test.tenant);
        let rows: Vec<_> = (0..1_500).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        commit(test, rows).await.unwrap();
        let log = change::Entity::find().order_by_asc(change::Column::Id).all(test.db.read()).await.unwrap();
        let (mut wanted, mut found) = (0, 0);
        for _ in 0..300 {
            let filter = any_filter().new_tree(&mut runner).unwrap().current();
            let limit = (1_u64..400).new_tree(&mut runner).unwrap().current();
            let mut ids = Vec::new();
            let mut after = None;
            loop {
                let page = page(test.db.read(), test.tenant, after, &filter, limit).await.unwrap();
                assert!(page.changes.len() as u64 <= limit);
                assert!(after.is_none_or(|after| after < page.end) || !page.has_more);
                ids.extend(page.changes.iter().map(|row| row.id));
                after = Some(page.end);
                if !page.has_more {
                    break;
                }
            }
            let matching: Vec<i64> = log.iter().filter(|row| filter.matches(row)).map(|row| row.id).collect();
            assert_eq!(ids, matching, "{filter:?}");
            assert_eq!(after, Some(head(test.db.read(), test.tenant).await.unwrap()));
            wanted += usize::from(!ids.is_empty());
            found += ids.len();
        }
        assert!(wanted > 50 && found < 300 * log.len() / 2, "the filters tell nothing: {wanted} {found}");
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
    let feed = Feed::new(db, tenant, FeedSettings { poll: Duration::from_millis(poll_milliseconds), retain });
    let shutdown = CancellationToken::new();
    tokio::spawn(feed.clone().run(shutdown.clone()));
    Running { feed, shutdown }
}

async fn take(changes: &mut (impl Stream<Item = Result<Arc<Change>>> + Unpin), count: usize) -> Vec<i64> {
    let some = changes.take(count).map(|change| change.unwrap().row.id).collect();
    tokio::time::timeout(NEVER, some).await.expect("a change is missing")
}

async fn commit(test: &TestDb, rows: Vec<change::ActiveModel>) -> Result<Vec<i64>> {
    commit_in(&test.db, rows).await
}

async fn commit_in(db: &Db, rows: Vec<change::ActiveModel>) -> Result<Vec<i64>> {
    db.transact(async |tx| {
        lock(tx, &["change"]).await?;
        let written = change::Entity::insert_many(rows.clone()).exec_with_returning(tx).await?;
        let mut ids: Vec<i64> = written.into_iter().map(|row| row.id).collect();
        ids.sort_unstable();
        Ok(ids)
    })
    .await
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn rows(tenant: Tenant, count: usize) -> Vec<change::ActiveModel> {
    (0..count).map(|_| row(tenant, 1)).collect()
}

fn row(tenant: Tenant, event_id: i64) -> change::ActiveModel {
    let model = change::Model {
        id: 0,
        tenant_id: tenant.id(),
        event_id,
        event_uri: Some("at://did:plc:a/community.lexicon.calendar.event/1".into()),
        operation: ChangeOperation::Updated,
        changed_fields: Texts(vec!["name".into()]),
        source_type: SourceType::Bluesky,
        organizer_did: Some("did:plc:a".into()),
        starts_at: None,
        latitude: None,
        longitude: None,
        occurred_at: instant(0),
        ingested_at: instant(0),
    };
    change::ActiveModel { id: NotSet, ..model.into_active_model().reset_all() }
}

fn any_row(tenant: Tenant) -> impl Strategy<Value = change::ActiveModel> {
    (any_operation(), any_source(), prop::option::of(any_did()), prop::option::of(any_instant()), any_point()).prop_map(
        move |(operation, source, did, start, point)| change::ActiveModel {
            operation: Set(operation),
            source_type: Set(source),
            organizer_did: Set(did),
            starts_at: Set(start),
            latitude: Set(point.map(|point| point.0)),
            longitude: Set(point.map(|point| point.1)),
            ..row(tenant, 1)
        },
    )
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let circle = (-90.0..=90.0, -180.0..=180.0, prop_oneof![0.0..500_000.0, 0.0..8_000_000.0]);
    let circle = circle.prop_map(|(latitude, longitude, radius_meters)| Circle { latitude, longitude, radius_meters });
    let span = (prop::option::of(any_instant()), prop::option::of(any_instant()));
    (
        prop::option::weighted(0.3, prop::collection::vec(any_source(), 0..4)),
        prop::option::weighted(0.3, prop::collection::vec(any_operation(), 0..3)),
        prop::option::weighted(0.3, prop::collection::vec(any_did(), 0..4)),
        prop::option::weighted(0.3, span.prop_map(|(from, to)| Span { from, to })),
        prop::option::weighted(0.4, circle),
    )
        .prop_map(|(source, operation, organizers, starts_at, near)| Filter {
            source,
            operation,
            organizers,
            starts_at,
            near,
        })
}

fn any_source() -> impl Strategy<Value = SourceType> {
    prop::sample::select(vec![SourceType::Openmeet, SourceType::Bluesky, SourceType::Web, SourceType::Other])
}

fn any_operation() -> impl Strategy<Value = ChangeOperation> {
    prop::sample::select(vec![ChangeOperation::Created, ChangeOperation::Updated, ChangeOperation::Deleted])
}

fn any_did() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["did:plc:a", "did:plc:b", "did:web:c.example", "did:plc:nobody"]).prop_map(String::from)
}

/// Few instants, so that bounds are hit, with fractions of every length that a database may write.
fn any_instant() -> impl Strategy<Value = DateTime<Utc>> {
    let micros = prop::sample::select(vec![0, 1, 1_000, 500_000, 500_001, 999_999]);
    (1_799_999_998_i64..1_800_000_003, micros)
        .prop_map(|(seconds, micros)| DateTime::from_timestamp_micros(seconds * 1_000_000 + micros).unwrap())
}

fn any_point() -> impl Strategy<Value = Option<(f64, f64)>> {
    prop::option::weighted(0.8, (-90.0..=90.0, -180.0..=180.0))
}

async fn event(test: &TestDb, slug: &str, with: impl Fn(&mut entities::event::ActiveModel)) -> i64 {
    let (tenant_id, now) = (test.tenant.id(), instant(0));
    let stored = test.db.transact(async |tx| {
        let organizer = entities::user::ActiveModel {
            id: NotSet,
            tenant_id: Set(tenant_id),
            did: Set(Some(format!("did:plc:{slug}"))),
            is_shadow_account: Set(true),
            provider: Set(SourceType::Bluesky),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let mut event = entities::event::ActiveModel {
            tenant_id: Set(tenant_id),
            user_id: Set(organizer.insert(tx).await?.id),
            slug: Set(slug.to_owned()),
            name: Set(slug.to_owned()),
            status: Set(EventStatus::Scheduled),
            mode: Set(EventMode::InPerson),
            visibility: Set(EventVisibility::Public),
            locations: Set(Locations::default()),
            links: Set(Links::default()),
            search_text: Set(slug.to_owned()),
            source_type: Set(SourceType::Bluesky),
            is_hidden: Set(false),
            confirmed_count: Set(0),
            maybe_count: Set(0),
            cancelled_count: Set(0),
            created_at: Set(now),
            updated_at: Set(now),
            ingested_at: Set(now),
            ..Default::default()
        };
        with(&mut event);
        Ok(event.insert(tx).await?)
    });
    stored.await.unwrap().id
}
