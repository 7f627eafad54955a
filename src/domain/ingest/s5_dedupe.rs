//! Stage 5: what of it is news, judged against the ledger.
//!
//! The rule is [`judge`]. Stage 8 applies it under its locks. Here it is applied to what the ledger holds before the transaction
//! begins, so that a replay of known records costs one query and no transaction. Judging early is never wrong, because the
//! revision that the ledger holds for a URI only grows; where little is known it costs more than it saves, and is left out
//! ([`Foresight`]).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use chrono::{DateTime, Utc};
use entities::{sets::Verdict, source_record as ledger};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};

use super::{
    parked::{Parked, Stage},
    s4_map::{Mapped, RecordChange},
};
use crate::{error::Result, infra::db::among};

/// What the ledger holds for a URI, as far as the rules look at it.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(super) struct Held {
    pub(super) uri: String,
    pub(super) rev: String,
    pub(super) cid: Option<String>,
    pub(super) subject_uri: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) deleted_at: Option<DateTime<Utc>>,
}

/// How a change relates to what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// Never seen.
    New,
    /// A later revision with other content, or a delete.
    Newer,
    /// A later revision with the very content that is held: an echo of our own write, or a repository read again. Only
    /// the revision moves.
    Echo,
    /// The same revision of a record that could not be read then and may be now, or of which only fields were known.
    Reread,
    /// The same revision of a record that can still not be read.
    Unreadable,
    /// The same revision.
    Same,
    /// An earlier revision.
    Older,
}

impl Novelty {
    const NEWS: [Self; 4] = [Self::New, Self::Newer, Self::Echo, Self::Reread];

    /// Whether the ledger changes.
    pub(super) fn is_news(self) -> bool {
        Self::NEWS.contains(&self)
    }

    /// Closed set, for metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Newer => "newer",
            Self::Echo => "echo",
            Self::Reread => "reread",
            Self::Unreadable => "unreadable",
            Self::Same => "same",
            Self::Older => "older",
        }
    }
}

/// The rule of the ledger: the revision decides, not the order of arrival.
pub(super) fn judge(change: &RecordChange, held: Option<&Held>) -> Novelty {
    let Some(held) = held else { return Novelty::New };
    let cid = change.version.as_ref().and_then(|version| version.cid.as_ref());
    match change.rev.as_str().cmp(&held.rev) {
        Ordering::Less => Novelty::Older,
        Ordering::Equal => match change.version.as_ref().map(|version| &version.reading.draft) {
            Some(Ok(_)) if held.verdict == Verdict::Unreadable => Novelty::Reread,
            Some(Err(_)) if held.verdict == Verdict::Unreadable => Novelty::Unreadable,
            // What was made of its fields has no version and is never to the letter of the lexicon.
            Some(Ok(_)) if held.cid.is_none() && held.verdict == Verdict::Lenient && cid.is_some() => Novelty::Reread,
            _ => Novelty::Same,
        },
        Ordering::Greater if cid.is_some() && cid == held.cid.as_ref() => Novelty::Echo,
        Ordering::Greater => Novelty::Newer,
    }
}

/// How much of what came of late was known. What is judged early and is news is looked up a second time, under the lock.
#[derive(Debug)]
pub struct Foresight(AtomicU64);

impl Foresight {
    /// Known records among a thousand from which on judging early pays: it saves what is known all the rest, which is taken to
    /// be worth half as much again as the look-up that it costs everything. An estimate, made of the statements' own times.
    const PAYS: u64 = 667;

    fn pays(&self) -> bool {
        self.0.load(Relaxed) >= Self::PAYS
    }

    /// Takes in how often which judgement was passed on a batch: its share counts a quarter.
    pub(super) fn learn(&self, novelties: &BTreeMap<&'static str, u64>) {
        let all: u64 = novelties.values().sum();
        let news: u64 = Novelty::NEWS.iter().filter_map(|novelty| novelties.get(novelty.as_str())).sum();
        if let Some(known) = ((all - news) * 1_000).checked_div(all) {
            // Two that learn at the same time may forget one batch: it is an estimate.
            self.0.store((self.0.load(Relaxed) * 3 + known) / 4, Relaxed);
        }
    }
}

impl Default for Foresight {
    /// Whoever has just started is often told again what was taken in before.
    fn default() -> Self {
        Self(AtomicU64::new(1_000))
    }
}

/// A message with what is known of its novelty so far.
#[derive(Debug)]
pub(super) enum Deduped {
    /// May be news.
    Candidate(Mapped),
    /// Certainly no news.
    Known,
    /// Refused by an earlier stage.
    Refused(Parked),
}

pub(super) async fn dedupe(
    db: &impl ConnectionTrait,
    foresight: &Foresight,
    batch: Vec<Result<Mapped, Parked>>,
) -> Result<Vec<Deduped>> {
    let uris = batch.iter().filter_map(|mapped| match mapped {
        Ok(Mapped::Record(change)) => Some(change.uri.as_str()),
        Ok(Mapped::Claim(claim)) => Some(claim.uri.as_str()),
        _ => None,
    });
    // Beside what nobody knows everything is news.
    let held = if foresight.pays() { find_held(db, uris).await? } else { HashMap::new() };
    Ok(batch
        .into_iter()
        .map(|mapped| match mapped {
            Err(parked) => Deduped::Refused(parked),
            Ok(Mapped::Nothing) => Deduped::Known,
            Ok(Mapped::Record(change)) => {
                let novelty = judge(&change, held.get(&change.uri));
                if novelty == Novelty::Unreadable
                    && let Some(Err(refusal)) = change.version.as_ref().map(|version| &version.reading.draft)
                {
                    return Deduped::Refused(Parked::at(Stage::Map, refusal.code, refusal.why.clone()));
                }
                if novelty.is_news() { Deduped::Candidate(Mapped::Record(change)) } else { Deduped::Known }
            }
            // Its content shows only beside what is held when it is written; that it comes too late, or again, shows now.
            Ok(Mapped::Claim(claim)) => {
                let is_known = |held: &Held| match claim.rev.as_deref().map(|rev| rev.cmp(&held.rev)) {
                    Some(Ordering::Less) => true,
                    Some(Ordering::Equal) => held.cid.is_some() && held.cid == claim.cid,
                    Some(Ordering::Greater) | None => false,
                };
                if held.get(&claim.uri).is_some_and(is_known) {
                    Deduped::Known
                } else {
                    Deduped::Candidate(Mapped::Claim(claim))
                }
            }
            Ok(mapped) => Deduped::Candidate(mapped),
        })
        .collect())
}

/// What the ledger holds for these URIs.
pub(super) async fn find_held<'a>(
    db: &impl ConnectionTrait,
    uris: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Held>> {
    let uris: BTreeSet<&str> = uris.collect();
    if uris.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = ledger::Entity::find()
        .select_only()
        .columns([
            ledger::Column::Uri,
            ledger::Column::Rev,
            ledger::Column::Cid,
            ledger::Column::SubjectUri,
            ledger::Column::Verdict,
            ledger::Column::DeletedAt,
        ])
        .filter(among(db.get_database_backend(), ledger::Column::Uri, uris.into_iter().map(str::to_owned).collect()))
        .into_model::<Held>()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|held| (held.uri.clone(), held)).collect())
}
