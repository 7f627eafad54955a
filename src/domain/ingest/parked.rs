//! Putting a message aside: with the stage, a code and the payload.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use entities::{ingest_failure as failure, sets::FailureState};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, EntityTrait, ExprTrait,
    sea_query::{Expr, OnConflict},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::Result;

/// Bytes of a payload that are kept; a longer one is cut, since it was parked for its size.
const PAYLOAD_BYTES: usize = 2 * 1024 * 1024;
/// Characters of the reason that are kept.
const REASON_CHARS: usize = 1_000;

/// Name of a stage, for the failure list and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Size, form.
    Receive,
    /// Which source speaks.
    Identify,
    /// Which account speaks.
    Attribute,
    /// From record to draft.
    Map,
    /// To the tables.
    Persist,
    /// From a repository that has to be read again.
    Fetch,
}

impl Stage {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Identify => "identify",
            Self::Attribute => "attribute",
            Self::Map => "map",
            Self::Persist => "persist",
            Self::Fetch => "fetch",
        }
    }
}

/// A message that cannot be applied, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Where it failed.
    pub stage: Stage,
    /// Stable reason.
    pub code: &'static str,
    /// Text for people.
    pub why: String,
}

impl Parked {
    pub(super) fn at(stage: Stage, code: &'static str, why: impl Into<String>) -> Self {
        Self { stage, code, why: why.into() }
    }
}

/// Puts messages aside. One that is parked already only counts another attempt; one that was discarded stays so.
pub(super) async fn park(tx: &impl ConnectionTrait, now: DateTime<Utc>, messages: &[(&String, &Parked)]) -> Result<()> {
    // A batch may hold the same message twice, and one statement may touch a row only once.
    let mut rows = BTreeMap::new();
    for (body, parked) in messages {
        let hash = payload_hash(body);
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

/// What tells one message from another.
pub(super) fn payload_hash(body: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(body.as_bytes()))
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
