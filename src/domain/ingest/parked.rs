//! Putting a message aside: with the stage, a code and the payload.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use entities::{ingest_failure as failure, ingest_failure_log as log, sets::FailureState};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, ExprTrait,
    sea_query::{Expr, OnConflict},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::failure::LOCK;
use crate::{
    error::Result,
    infra::db::{insert, insert_returning, lock},
};

/// Bytes of a payload that are kept; a longer one is cut, since it was parked for its size.
const PAYLOAD_BYTES: usize = 2 * 1024 * 1024;
/// Characters of the reason that are kept.
const REASON_CHARS: usize = 1_000;

/// Name of a stage, for the failure list and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In the queue already: a dead letter, which its consumers died of, or could not read.
    Queue,
    /// Size, form.
    Receive,
    /// Which source speaks.
    Identify,
    /// Which account speaks.
    Attribute,
    /// From record to draft.
    Map,
    /// Whether it is news.
    Dedupe,
    /// Which tenant gets it.
    Route,
    /// What it may say here.
    Validate,
    /// To the tables.
    Persist,
    /// To those who wait.
    Notify,
    /// From a repository that has to be read again.
    Fetch,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Queue,
        Self::Receive,
        Self::Identify,
        Self::Attribute,
        Self::Map,
        Self::Dedupe,
        Self::Route,
        Self::Validate,
        Self::Persist,
        Self::Notify,
        Self::Fetch,
    ];

    /// The stage of this name; `None` for one that this version does not know.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Receive => "receive",
            Self::Identify => "identify",
            Self::Attribute => "attribute",
            Self::Map => "map",
            Self::Dedupe => "dedupe",
            Self::Route => "route",
            Self::Validate => "validate",
            Self::Persist => "persist",
            Self::Notify => "notify",
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

/// Puts messages aside, and notes it in their history. One that is parked already only counts another attempt; one that was
/// discarded stays so.
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
    lock(tx, &LOCK).await?;
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
    let columns = [failure::Column::Id, failure::Column::PayloadHash, failure::Column::State];
    let written: Vec<(i64, String, FailureState)> =
        insert_returning(tx, rows.values().cloned().collect(), Some(on_conflict), &columns).await?;
    // What was discarded stays so, which is no news.
    let parked = written.iter().filter(|(_, _, state)| *state == FailureState::Parked);
    let notes = parked.filter_map(|(id, hash, _)| {
        let row = rows.get(hash)?;
        Some(log::ActiveModel {
            id: NotSet,
            failure_id: Set(*id),
            state: Set(FailureState::Parked),
            stage: row.stage.clone(),
            code: row.code.clone(),
            reason: row.reason.clone(),
            decided_by: Set(None),
            at: Set(now),
        })
    });
    insert(tx, notes.collect(), None).await?;
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
        claim: Option<RoughCommit>,
    }
    #[derive(Deserialize)]
    struct RoughCommit {
        collection: Option<String>,
        rkey: Option<String>,
    }
    let Ok(Rough { did, commit, claim }) = serde_json::from_str::<Rough>(body) else { return About::default() };
    let uri = match (&did, commit.or(claim)) {
        // What a program brings has no repository in its address.
        (_, Some(RoughCommit { collection: Some(collection), rkey: Some(rkey) })) if collection.contains("://") => {
            Some(format!("{collection}/{rkey}"))
        }
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
