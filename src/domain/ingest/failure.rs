//! Parked messages: what the pipeline could not apply, kept with its reason until a person decides.

use entities::{ingest_failure as failure, sets::FailureState};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

pub use entities::ingest_failure::Model;

use super::{
    parked::{Parked, Stage, park, payload_hash},
    pipeline::{Outcome, submit},
    resync,
};
use crate::{
    app::App,
    error::{Error, Result},
};

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

/// Gives a parked message up. The row stays, so that the same message does not come back.
pub async fn discard(app: &App, parked: &Model) -> Result<()> {
    close(app, parked.id, FailureState::Discarded).await
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
