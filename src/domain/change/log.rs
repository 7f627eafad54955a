//! Reading the log in pages, and forgetting its old end.
//!
//! How far the old end has been cut is kept beside the log, for each tenant, under a name in the table of stream positions:
//! whether a cursor is too old cannot be told from the rows alone, because ids have holes where nothing was ever deleted.
//! Ids are counted for all tenants together, and so are positions: a reader of one tenant stands where the log stands,
//! whosever change that was.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use entities::{change, event, stream_cursor};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::{Change, Cursor, Filter, cursor::invalid};
use crate::{
    domain::{event::listed, tenant::Tenant},
    error::{Error, Result},
    infra::db::{among, lock},
};

/// How many ids one statement looks at: a filter that hits nothing must not walk through the whole log at once.
const REACH: i64 = 10_000;

/// How many such statements one page may take.
const READS: usize = 10;

/// How many changes one call of [`cut`] deletes, so that writers do not wait long for it.
const CUT: u64 = 5_000;

/// Changes in the order of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Those that the filter wants.
    pub changes: Vec<change::Model>,
    /// Everything up to here has been looked at, whether wanted or not: the `after` of the next page.
    pub end: Cursor,
    /// The log goes on after `end`.
    pub has_more: bool,
}

/// Reads at most `limit` changes after a cursor, or from the oldest one that is kept.
///
/// A page may be short, even empty, while `has_more` holds: the number of rows looked at is bounded too. It always moves
/// on, so reading until `has_more` is false reaches the head that the log had at the last page.
///
/// `CURSOR_EXPIRED` when retention has deleted changes after the cursor; `CURSOR_INVALID` when the log has never been as
/// far as the cursor says.
pub async fn page(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    after: Option<Cursor>,
    filter: &Filter,
    limit: u64,
) -> Result<Page> {
    // Read before the rows: all of the log up to the head is visible to every later statement.
    let newest = newest(db).await?.unwrap_or(0);
    let start = match after {
        Some(cursor) => cursor.id(),
        None => oldest(db, tenant).await?.map_or(0, |id| id - 1),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    let mut at = start;
    let mut changes: Vec<change::Model> = Vec::new();
    for _ in 0..READS {
        let missing = limit - changes.len();
        if at >= newest || missing == 0 {
            break;
        }
        let stop = newest.min(at.saturating_add(REACH));
        let rows = tenant
            .changes()
            .filter(change::Column::Id.gt(at))
            .filter(change::Column::Id.lte(stop))
            .filter(filter.condition(db.get_database_backend()))
            .order_by_asc(change::Column::Id)
            .limit(missing as u64)
            .all(db)
            .await?;
        at = rows.last().filter(|_| rows.len() == missing).map_or(stop, |row| row.id);
        changes.extend(rows.into_iter().filter(|row| filter.matches(row)));
    }
    // Read after the rows: what was cut meanwhile may be missing among them.
    let (cut, farthest) = marks(db, Some(tenant)).await?;
    if after.is_some() && start < cut {
        return Err(Error::invalid("after", "CURSOR_EXPIRED", "changes after it have been deleted; read anew"));
    }
    if start > newest.max(farthest) {
        return Err(invalid("this stream has never been there"));
    }
    Ok(Page { changes, end: Cursor::new(at.max(cut)), has_more: at < newest })
}

/// The position after everything that is in the log now.
pub async fn head(db: &impl ConnectionTrait) -> Result<Cursor> {
    let newest = newest(db).await?.unwrap_or(0);
    // An emptied log goes on where it ended.
    let (_, farthest) = marks(db, None).await?;
    Ok(Cursor::new(newest.max(farthest)))
}

/// Deletes changes that were committed more than `keep` ago, a few thousand at a time: again, until it returns nought.
/// Cursors before the cut then answer `CURSOR_EXPIRED`. An old change behind a younger one waits for that one, because
/// only a whole beginning of the log can be cut. To be called in a transaction.
pub async fn cut(tx: &impl ConnectionTrait, tenant: Tenant, now: DateTime<Utc>, keep: Duration) -> Result<u64> {
    lock(tx, &[name(tenant)]).await?;
    let rows: Vec<(i64, DateTime<Utc>)> = tenant
        .changes()
        .select_only()
        .columns([change::Column::Id, change::Column::IngestedAt])
        .order_by_asc(change::Column::Id)
        .limit(CUT)
        .into_tuple()
        .all(tx)
        .await?;
    // What lies in the future has no age.
    let is_old = |at: DateTime<Utc>| now.signed_duration_since(at).to_std().is_ok_and(|age| age > keep);
    let old = rows.iter().take_while(|(_, ingested_at)| is_old(*ingested_at));
    let Some(last) = old.last().map(|(id, _)| *id) else { return Ok(0) };
    let mark = stream_cursor::ActiveModel { endpoint: Set(name(tenant)), position: Set(last), updated_at: Set(now) };
    stream_cursor::Entity::insert(mark)
        .on_conflict(
            OnConflict::column(stream_cursor::Column::Endpoint)
                .update_columns([stream_cursor::Column::Position, stream_cursor::Column::UpdatedAt])
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    let deleted = change::Entity::delete_many()
        .filter(change::Column::TenantId.eq(tenant.id()))
        .filter(change::Column::Id.lte(last))
        .exec(tx)
        .await?;
    Ok(deleted.rows_affected)
}

/// Hangs the events on their changes, with one statement: those that are listed now.
pub async fn with_events(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    rows: Vec<change::Model>,
) -> Result<Vec<Arc<Change>>> {
    let mut ids: Vec<i64> = rows.iter().map(|row| row.event_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut events = HashMap::new();
    if !ids.is_empty() {
        let wanted = among(db.get_database_backend(), event::Column::Id, ids);
        let found = listed(tenant).filter(wanted).all(db).await?;
        events.extend(found.into_iter().map(|event| (event.id, Arc::new(event))));
    }
    Ok(rows.into_iter().map(|row| Arc::new(Change { event: events.get(&row.event_id).cloned(), row })).collect())
}

/// The next changes after a position, of all tenants, with their events: for the tail, which nothing outruns. One statement, and
/// one more for each tenant among them.
pub(super) async fn following(db: &impl ConnectionTrait, after: i64, limit: u64) -> Result<Vec<Arc<Change>>> {
    let rows = change::Entity::find().filter(change::Column::Id.gt(after)).order_by_asc(change::Column::Id);
    let mut of_tenants: BTreeMap<i64, Vec<change::Model>> = BTreeMap::new();
    for row in rows.limit(limit).all(db).await? {
        of_tenants.entry(row.tenant_id).or_default().push(row);
    }
    let mut changes = Vec::new();
    for rows in of_tenants.into_values() {
        let Some(tenant) = rows.first().map(Tenant::of_change) else { continue };
        changes.extend(with_events(db, tenant, rows).await?);
    }
    changes.sort_unstable_by_key(|change| change.row.id);
    Ok(changes)
}

async fn oldest(db: &impl ConnectionTrait, tenant: Tenant) -> Result<Option<i64>> {
    let ids = tenant.changes().select_only().column(change::Column::Id).order_by_asc(change::Column::Id);
    Ok(ids.into_tuple().one(db).await?)
}

async fn newest(db: &impl ConnectionTrait) -> Result<Option<i64>> {
    let ids = change::Entity::find().select_only().column(change::Column::Id).order_by_desc(change::Column::Id);
    Ok(ids.into_tuple().one(db).await?)
}

/// Up to which id changes have been deleted: of this tenant, and of any.
async fn marks(db: &impl ConnectionTrait, tenant: Option<Tenant>) -> Result<(i64, i64)> {
    let marks = stream_cursor::Entity::find().filter(stream_cursor::Column::Endpoint.starts_with(MARK));
    let own = tenant.map(name);
    let (mut cut, mut farthest) = (0, 0);
    for mark in marks.all(db).await? {
        farthest = mark.position.max(farthest);
        if Some(&mark.endpoint) == own.as_ref() {
            cut = mark.position;
        }
    }
    Ok((cut, farthest))
}

/// What names of marks in the table of stream positions begin with. No stream's address has this form.
const MARK: &str = "change-log:";

fn name(tenant: Tenant) -> String {
    format!("{MARK}{}", tenant.id())
}
