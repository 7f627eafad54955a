//! Parked messages: what the pipeline could not apply, kept with its reason until a person decides.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{ingest_failure as failure, sets::FailureState};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

pub use entities::ingest_failure::Model;

use super::{
    parked::{Parked, Stage, park, payload_hash},
    pipeline::{Outcome, submit},
    resync,
};
use crate::{
    app::App,
    error::{Error, Result},
    infra::db::among,
};

/// How many rows one call of [`clear`] deletes: payloads may be large.
const CLEARED: u64 = 500;

/// Which parked messages are meant; every given condition must hold.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These keys.
    pub ids: Vec<i64>,
    /// This reason.
    pub code: Option<String>,
    /// This repository.
    pub did: Option<String>,
}

/// Parks a message that was tried too often, or that nobody can act on.
pub async fn give_up(app: &App, body: &String, error: &Error) -> Result<()> {
    let parked = Parked::at(Stage::Fetch, error.reason(), error.chain());
    let parked = &parked;
    app.db.transact(|tx| async move { park(&*tx, app.clock.now(), &[(body, parked)]).await }).await
}

/// Parked messages, oldest first.
pub async fn list(app: &App, selection: &Selection, limit: u64) -> Result<Vec<Model>> {
    let mut query = failure::Entity::find().filter(failure::Column::State.eq(FailureState::Parked));
    if !selection.ids.is_empty() {
        query = query.filter(failure::Column::Id.is_in(selection.ids.iter().copied()));
    }
    if let Some(code) = &selection.code {
        query = query.filter(failure::Column::Code.eq(code));
    }
    if let Some(did) = &selection.did {
        query = query.filter(failure::Column::Did.eq(did));
    }
    Ok(query.order_by_asc(failure::Column::Id).limit(limit).all(app.db.read()).await?)
}

/// Sends a parked message through the pipeline again. It leaves the list when it is applied or overtaken by now.
///
/// Errors: `PAYLOAD_CUT` for a message that was too large to be kept as a whole, and those of the network for one that
/// asks for a repository to be read.
pub async fn retry(app: &App, parked: &Model) -> Result<Outcome> {
    if payload_hash(&parked.payload) != parked.payload_hash {
        return Err(Error::invalid("payload", "PAYLOAD_CUT", "the message was too large to be kept as a whole"));
    }
    let outcome = if resync::is_request(&parked.payload) {
        submit(app, &resync::fetch(app, &parked.payload).await?).await?;
        Outcome::Applied
    } else {
        let outcomes = submit(app, std::slice::from_ref(&parked.payload)).await?;
        outcomes.into_iter().next().unwrap_or(Outcome::Unchanged)
    };
    if !matches!(outcome, Outcome::Parked(_)) {
        close(app, parked.id, FailureState::Resolved).await?;
    }
    Ok(outcome)
}

/// Gives a parked message up. The row stays until it is [cleared](clear), so that the same message does not come back.
pub async fn discard(app: &App, parked: &Model) -> Result<()> {
    close(app, parked.id, FailureState::Discarded).await
}

/// Deletes what was resolved or discarded more than `keep` ago and has not come again since, some hundreds at a time:
/// again, until it returns nought. What is parked stays. To be called in a transaction.
pub async fn clear(tx: &impl ConnectionTrait, now: DateTime<Utc>, keep: Duration) -> Result<u64> {
    // What is to be kept longer than there has been time has no end.
    let Some(end) = TimeDelta::from_std(keep).ok().and_then(|keep| now.checked_sub_signed(keep)) else { return Ok(0) };
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
        return Ok(0);
    }
    let old = among(tx.get_database_backend(), failure::Column::Id, old);
    // One that was parked again meanwhile is looked at again.
    let closed = failure::Column::State.ne(FailureState::Parked);
    Ok(failure::Entity::delete_many().filter(old).filter(closed).exec(tx).await?.rows_affected)
}

async fn close(app: &App, id: i64, state: FailureState) -> Result<()> {
    let now = app.clock.now();
    app.db
        .transact(|tx| async move {
            failure::Entity::update_many()
                .col_expr(failure::Column::State, Expr::value(state.as_str()))
                .col_expr(failure::Column::ResolvedAt, Expr::value(now))
                .filter(failure::Column::Id.eq(id))
                .exec(&*tx)
                .await?;
            Ok(())
        })
        .await
}
