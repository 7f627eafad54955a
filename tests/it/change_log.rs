//! Reading the change log: pages hold what their filter wants, and a cursor expires exactly when something is lost.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{
    change,
    sets::{ChangeOperation, SourceType},
};
use gateway::{
    domain::{
        change::{Cursor, Feed, FeedSettings, Filter, Page, cut, head, page},
        event::GeoRadius,
        range::Range,
        tenant::Tenant,
    },
    error::Error,
    infra::kv::Bell,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, QueryOrder};

use crate::support::{
    changes::{commit, instant, row, rows},
    database::on_each_database,
};

#[tokio::test]
async fn a_cursor_expires_exactly_when_changes_after_it_are_deleted() {
    on_each_database(async |test| {
        let (db, tenant) = (test.db.read(), test.tenant);
        let everything = Filter::default();
        let (now, keep) = (instant(1_000_000), Duration::from_hours(24));
        let empty = head(db).await.unwrap();

        // A hole at the low end, where nothing was ever deleted: the very first cursor still holds.
        let undone = test
            .db
            .transact(|tx| async move {
                row(tenant, 1).insert(&*tx).await?;
                Err::<(), _>(Error::invalid("test", "UNDONE", "so it was meant"))
            })
            .await;
        assert!(undone.is_err());
        let mut old = rows(tenant, 3);
        for row in &mut old {
            row.ingested_at = Set(now - keep - Duration::from_micros(1));
        }
        let old = commit(&test.db, old).await.unwrap();
        let mut young = rows(tenant, 2);
        for row in &mut young {
            row.ingested_at = Set(now - keep);
        }
        let young = commit(&test.db, young).await.unwrap();
        let ids = |page: Page| page.changes.iter().map(|row| row.id).collect::<Vec<_>>();
        let all: Vec<i64> = old.iter().chain(&young).copied().collect();
        let whole = page(db, tenant, Some(empty), &everything, 100).await.unwrap();
        let cursors: Vec<Cursor> = whole.changes.iter().map(Cursor::of).collect();
        assert_eq!(ids(whole), all);

        assert_eq!(test.db.transact(|tx| async move { cut(&*tx, tenant, now, keep).await }).await.unwrap(), 3);
        assert_eq!(test.db.transact(|tx| async move { cut(&*tx, tenant, now, keep).await }).await.unwrap(), 0);
        for lost in [empty, cursors[0], cursors[1]] {
            let error = page(db, tenant, Some(lost), &everything, 100).await.unwrap_err();
            assert_eq!(error.reason(), "CURSOR_EXPIRED");
        }
        // The last one that was deleted has nothing deleted after it.
        assert_eq!(ids(page(db, tenant, Some(cursors[2]), &everything, 100).await.unwrap()), young);
        assert_eq!(ids(page(db, tenant, None, &everything, 100).await.unwrap()), young);

        // An emptied log goes on where it ended.
        let later = now + keep;
        assert_eq!(test.db.transact(|tx| async move { cut(&*tx, tenant, later, keep).await }).await.unwrap(), 2);
        let end = page(db, tenant, None, &everything, 100).await.unwrap();
        assert_eq!((end.changes.len(), end.end, end.has_more), (0, cursors[4], false));
        assert_eq!(head(db).await.unwrap(), cursors[4]);
        let next = commit(&test.db, rows(tenant, 1)).await.unwrap();
        assert_eq!(ids(page(db, tenant, Some(end.end), &everything, 100).await.unwrap()), next);

        let feed = Feed::new(test.db.clone(), tenant, Bell::within_process(), FeedSettings::default());
        let refused = feed.subscribe(everything.clone(), Some(cursors[0])).await;
        assert_eq!(refused.err().unwrap().reason(), "CURSOR_EXPIRED");
        let ahead = page(db, tenant, None, &everything, 100).await.unwrap().end;
        let gone = change::Entity::delete_by_id(next[0]);
        let gone = &gone;
        test.db.transact(|tx| async move { Ok(gone.clone().exec(&*tx).await?) }).await.unwrap();
        let error = page(db, tenant, Some(ahead), &everything, 100).await.unwrap_err();
        assert_eq!(error.reason(), "CURSOR_INVALID");
    })
    .await;
}

#[tokio::test]
async fn pages_hold_what_the_filter_matches() {
    on_each_database(async |test| {
        let mut runner = TestRunner::deterministic();
        let strategy = any_row(test.tenant);
        let rows: Vec<_> = (0..1_000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        commit(&test.db, rows).await.unwrap();
        let log = change::Entity::find().order_by_asc(change::Column::Id).all(test.db.read()).await.unwrap();
        let (mut wanted, mut found) = (0, 0);
        for _ in 0..250 {
            let filter = any_filter().new_tree(&mut runner).unwrap().current();
            let limit = (20_u64..400).new_tree(&mut runner).unwrap().current();
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
            assert_eq!(after, Some(head(test.db.read()).await.unwrap()));
            wanted += usize::from(!ids.is_empty());
            found += ids.len();
        }
        assert!(wanted > 50 && found < 250 * log.len() / 2, "the filters tell nothing: {wanted} {found}");
    })
    .await;
}

fn any_row(tenant: Tenant) -> impl Strategy<Value = change::ActiveModel> {
    (
        any_operation(),
        any_source(),
        prop::option::of(any_did()),
        prop::option::of(any_instant()),
        prop::option::of(place()),
    )
        .prop_map(move |(operation, source, did, start, point)| change::ActiveModel {
            operation: Set(operation),
            source_type: Set(source),
            organizer_did: Set(did),
            starts_at: Set(start),
            latitude: Set(point.map(|point| point.0)),
            longitude: Set(point.map(|point| point.1)),
            ..row(tenant, 1)
        })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let area = (place(), prop_oneof![1..=1_000, 1..=500_000])
        .prop_map(|((latitude, longitude), meters)| GeoRadius::new(latitude, longitude, meters).unwrap());
    let range = (prop::option::of(any_instant()), prop::option::of(any_instant()));
    (
        prop::option::weighted(0.3, prop::collection::vec(any_source(), 0..4)),
        prop::option::weighted(0.3, prop::collection::vec(any_operation(), 0..3)),
        prop::option::weighted(0.3, prop::collection::vec(any_did(), 0..4)),
        prop::option::weighted(0.3, range.prop_map(|(from, to)| Range { from, to })),
        prop::option::weighted(0.4, area),
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

/// A few regions, poles and the antimeridian among them, so that points and areas meet.
fn place() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        (50.0..54.0, 8.0..15.0),
        (-18.0..-14.0, prop_oneof![177.0..=180.0, -180.0..=-177.0]),
        (88.0..=90.0, -180.0..=180.0),
        Just((-90.0, 0.0)),
        Just((52.5, 13.4)),
    ]
}
