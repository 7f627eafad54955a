//! The log of what happened to parked messages, and positions in it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use entities::{ingest_failure_log as log, stream_cursor};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::Entry;
use crate::{
    domain::cursor,
    error::{Error, Result},
    infra::db::lock,
};

/// The key that whoever writes to the log locks right before.
pub const LOCK: [&str; 1] = ["failure-log"];

/// Name of the mark, in the table of stream positions, up to which the log has been cut. No stream's address has this form.
const MARK: &str = "failure-log";
/// How many entries one call of [`cut`] deletes.
const CUT: u64 = 5_000;
/// Which log, and the format's version.
const LOG: &str = "f1";

/// A position in the log: everything up to and including it has been seen. Its text is opaque and URL-safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub(super) i64);

impl Cursor {
    /// The position of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self(entry.id)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cursor::write(LOG, self.0))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        cursor::read(LOG, text).map(Self).ok_or_else(|| invalid("it is not a cursor of this stream"))
    }
}

fn invalid(why: &'static str) -> Error {
    Error::invalid("after", "CURSOR_INVALID", why)
}

/// The position after everything that is in the log now.
pub(super) async fn head(db: &impl ConnectionTrait) -> Result<Cursor> {
    let newest = log::Entity::find().select_only().column(log::Column::Id).order_by_desc(log::Column::Id);
    match newest.into_tuple::<i64>().one(db).await? {
        Some(id) => Ok(Cursor(id)),
        // An emptied log goes on where it ended.
        None => Ok(Cursor(cut_to(db).await?)),
    }
}

/// Whether the log has ever been as far as a cursor says.
///
/// Errors: `CURSOR_INVALID`.
pub(super) async fn check(db: &impl ConnectionTrait, cursor: Cursor) -> Result<()> {
    if cursor > head(db).await? { Err(invalid("this stream has never been there")) } else { Ok(()) }
}

/// The next entries after a position.
///
/// Errors: `CURSOR_EXPIRED` when entries after it have been deleted.
pub(super) async fn following(db: &impl ConnectionTrait, after: Cursor, limit: u64) -> Result<Vec<Entry>> {
    let entries = log::Entity::find().filter(log::Column::Id.gt(after.0)).order_by_asc(log::Column::Id);
    let entries = entries.limit(limit).all(db).await?;
    // Read after the entries: what was cut meanwhile may be missing among them.
    let cut = cut_to(db).await?;
    if after.0 < cut {
        return Err(Error::invalid("after", "CURSOR_EXPIRED", "entries after it have been deleted; list anew"));
    }
    Ok(entries)
}

/// Deletes entries from before `end`, a few thousand at a time.
pub(super) async fn cut(tx: &impl ConnectionTrait, now: DateTime<Utc>, end: DateTime<Utc>) -> Result<u64> {
    let oldest: Vec<(i64, DateTime<Utc>)> = log::Entity::find()
        .select_only()
        .columns([log::Column::Id, log::Column::At])
        .order_by_asc(log::Column::Id)
        .limit(CUT)
        .into_tuple()
        .all(tx)
        .await?;
    // Only a whole beginning can be cut: an older entry behind a younger one waits for that one.
    let Some((last, _)) = oldest.into_iter().take_while(|(_, at)| *at < end).last() else { return Ok(0) };
    lock(tx, &LOCK).await?;
    let mark = stream_cursor::ActiveModel { endpoint: Set(MARK.to_owned()), position: Set(last), updated_at: Set(now) };
    stream_cursor::Entity::insert(mark)
        .on_conflict(
            OnConflict::column(stream_cursor::Column::Endpoint)
                .update_columns([stream_cursor::Column::Position, stream_cursor::Column::UpdatedAt])
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(log::Entity::delete_many().filter(log::Column::Id.lte(last)).exec(tx).await?.rows_affected)
}

/// Up to which id entries have been deleted.
async fn cut_to(db: &impl ConnectionTrait) -> Result<i64> {
    let mark = stream_cursor::Entity::find_by_id(MARK).one(db).await?;
    Ok(mark.map_or(0, |mark| mark.position))
}
