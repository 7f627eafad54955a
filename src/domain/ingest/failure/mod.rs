//! Parked messages: what the pipeline could not apply and what died in the queue, kept with its reason until a person
//! decides. Retried messages pass the pipeline, or the queue, like all others.
//!
//! Everything that happens to one is noted in a log, which is its history and what [`watch()`] follows. Who writes to the
//! log takes [`LOCK`] right before and keeps it until the commit, so that entries become visible in their own order.
//!
//! The list belongs to the tenant that the network's records are routed to: who decides administers that one.

mod dead;
mod decide;
mod log;
mod query;
mod watch;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{ingest_failure as failure, sets::FailureState};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

pub use entities::{ingest_failure::Model, ingest_failure_log::Model as Entry};

pub(crate) use self::query::{by_ids, histories, order, payloads};
pub use self::{
    dead::collect,
    decide::{Became, Choice, Decided, Decision, MOST, discard, retry},
    log::{Cursor, LOCK},
    query::{Count, Filter, Payload, count, counts, find, following, history, page},
    watch::{Watched, watch},
};
use super::parked::{Parked, Stage, park};
use crate::{
    app::App,
    error::{Error, Result},
    infra::{db::among, kv::Topic},
};

/// How many rows one call of [`clear`] deletes: payloads may be large.
const CLEARED: u64 = 500;

/// Parks a message that was tried too often, or that nobody can act on.
pub async fn give_up(app: &App, stage: Stage, body: &String, error: &Error) -> Result<()> {
    let parked = Parked::at(stage, error.reason(), error.chain());
    let parked = &parked;
    app.db.transact(|tx| async move { park(&*tx, app.clock.now(), &[(body, parked)]).await }).await?;
    app.kv.bell(Topic::Failures).ring();
    Ok(())
}

/// How many messages wait for a decision, exactly.
pub async fn backlog(app: &App) -> Result<u64> {
    Ok(failure::Entity::find().filter(failure::Column::State.eq(FailureState::Parked)).count(app.db.read()).await?)
}

/// Deletes what was resolved or discarded more than `keep` ago and has not come again since, and what the log holds that is
/// older, some hundreds at a time: again, until it returns nought. What is parked stays. To be called in a transaction.
pub async fn clear(tx: &impl ConnectionTrait, now: DateTime<Utc>, keep: Duration) -> Result<u64> {
    // What is to be kept longer than there has been time has no end.
    let Some(end) = TimeDelta::from_std(keep).ok().and_then(|keep| now.checked_sub_signed(keep)) else { return Ok(0) };
    let cut = log::cut(tx, now, end).await?;
    let old: Vec<i64> = failure::Entity::find()
        .select_only()
        .column(failure::Column::Id)
        .filter(failure::Column::State.is_in([FailureState::Resolved, FailureState::Discarded]))
        .filter(failure::Column::LastFailedAt.lt(end))
        .filter(failure::Column::ResolvedAt.lt(end))
        .order_by_asc(failure::Column::Id)
        .limit(CLEARED)
        .into_tuple()
        .all(tx)
        .await?;
    if old.is_empty() {
        return Ok(cut);
    }
    let old = among(tx.get_database_backend(), failure::Column::Id, old);
    // One that was parked again meanwhile is looked at again.
    let closed = failure::Column::State.ne(FailureState::Parked);
    Ok(cut + failure::Entity::delete_many().filter(old).filter(closed).exec(tx).await?.rows_affected)
}
