//! Parked messages: what the pipeline could not apply, kept with its reason until a person decides.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use entities::{ingest_failure as failure, sets::FailureState};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use entities::ingest_failure::Model;

use super::pipeline::{Outcome, Parked, Stage, submit};
use crate::{
    app::App,
    error::{Error, Result},
};

/// Bytes of a payload that are kept; a longer one is cut, since it was parked for its size.
const PAYLOAD_BYTES: usize = 2 * 1024 * 1024;
/// Characters of the reason that are kept.
const REASON_CHARS: usize = 1_000;

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

/// Puts messages aside. One that is parked already only counts another attempt; one that was discarded stays so.
pub(super) async fn park(tx: &impl ConnectionTrait, now: DateTime<Utc>, messages: &[(&String, &Parked)]) -> Result<()> {
    // A batch may hold the same message twice, and one statement may touch a row only once.
    let mut rows = BTreeMap::new();
    for (body, parked) in messages {
        let hash = HEXLOWER.encode(&Sha256::digest(body.as_bytes()));
        let about = about(body);
        rows.insert(
            hash.clone(),
            failure::ActiveModel {
                id: NotSet,
                payload_hash: Set(hash),
                payload: Set(storable(body, PAYLOAD_BYTES)),
                did: Set(about.did.map(|did| storable(&did, 300))),
                uri: Set(about.uri.map(|uri| storable(&uri, 1_024))),
                stage: Set(parked.stage.as_str().to_owned()),
                code: Set(parked.code.to_owned()),
                reason: Set(parked.why.chars().filter(|c| *c != '\0').take(REASON_CHARS).collect()),
                attempts: Set(1),
                state: Set(FailureState::Parked),
                first_failed_at: Set(now),
                last_failed_at: Set(now),
                resolved_at: Set(None),
            },
        );
    }
    if rows.is_empty() {
        return Ok(());
    }
    let state = Expr::case(
        Expr::col((failure::Entity, failure::Column::State)).eq(FailureState::Discarded.as_str()),
        FailureState::Discarded.as_str(),
    )
    .finally(FailureState::Parked.as_str());
    let on_conflict = OnConflict::column(failure::Column::PayloadHash)
        .update_columns([
            failure::Column::Stage,
            failure::Column::Code,
            failure::Column::Reason,
            failure::Column::LastFailedAt,
        ])
        .value(failure::Column::Attempts, Expr::col((failure::Entity, failure::Column::Attempts)).add(1))
        .value(failure::Column::State, state)
        .to_owned();
    failure::Entity::insert_many(rows.into_values()).on_conflict(on_conflict).exec_without_returning(tx).await?;
    Ok(())
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
pub async fn retry(app: &App, parked: &Model) -> Result<Outcome> {
    let outcomes = submit(app, std::slice::from_ref(&parked.payload)).await?;
    let outcome = outcomes.into_iter().next().unwrap_or(Outcome::Unchanged);
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

/// What a message is about, as far as it can be read.
#[derive(Default)]
struct About {
    did: Option<String>,
    uri: Option<String>,
}

fn about(body: &str) -> About {
    #[derive(Deserialize)]
    struct Rough {
        did: Option<String>,
        commit: Option<RoughCommit>,
    }
    #[derive(Deserialize)]
    struct RoughCommit {
        collection: Option<String>,
        rkey: Option<String>,
    }
    let Ok(Rough { did, commit }) = serde_json::from_str::<Rough>(body) else { return About::default() };
    let uri = match (&did, commit) {
        (Some(did), Some(RoughCommit { collection: Some(collection), rkey: Some(rkey) })) => {
            Some(format!("at://{did}/{collection}/{rkey}"))
        }
        _ => None,
    };
    About { did, uri }
}

/// Cut to a number of bytes, and without the one character that PostgreSQL cannot store.
fn storable(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text.get(..end).unwrap_or_default().replace('\0', "\u{fffd}")
}
