//! Which batches may be written at the same time, over all processes.
//!
//! A batch of nothing but records of the network takes one of the [`LOCK`]s; then a lock for each account that wrote them; and,
//! when it has written what is new, one for each event that it makes, changes, removes or counts the answers of. Whoever
//! writes anything else (an account that becomes inactive, what programs say, two accounts that become one) takes all of the
//! [`LOCK`]s and writes alone.
//!
//! Records are written before the events are locked, and whatever depends on both is read after: of an event and an
//! answer to it that come at the same time, whoever locks the event later sees the other.
//!
//! Nobody waits in a circle: all go through these locks in the same order, the [`LOCK`]s first, and sort those of one kind.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;

use super::is_event;
use crate::{
    app::App,
    domain::ingest::{s4_map::Mapped, s5_dedupe::Deduped, s7_validate::Validated},
    error::Result,
    infra::db,
};

/// The keys of those who write projections, kept until the commit: as many may write at once. Whoever locks them all writes
/// alone.
pub const LOCK: [&str; 4] = ["projections 1", "projections 2", "projections 3", "projections 4"];

/// Waits for those who write what this account wrote, and holds others back from it until the commit: its events stay as they
/// are, but for the counts of their answers.
pub async fn hold_account(tx: &impl ConnectionTrait, did: &str) -> Result<()> {
    db::lock_one_of(tx, &LOCK).await?;
    db::lock(tx, &[did]).await
}

/// What keeps others away while a batch is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Locks {
    /// Nobody else writes.
    Alone,
    /// Others write what is about other accounts and other events.
    Beside,
}

impl Locks {
    /// Waits for those who write records of the same accounts.
    pub(super) async fn take(tx: &impl ConnectionTrait, app: &App, parts: &[Validated]) -> Result<Self> {
        // All who write at once have room for theirs, and others for as many; a batch that may need more writes alone.
        let most = app.db.lock_room(tx).await? / (LOCK.len() + 1);
        let Some(authors) = authors(parts, most) else {
            db::lock(tx, &LOCK).await?;
            return Ok(Self::Alone);
        };
        db::lock_one_of(tx, &LOCK).await?;
        let keys: Vec<&str> = authors.into_iter().collect();
        db::lock(tx, &keys).await?;
        Ok(Self::Beside)
    }

    /// Waits for those who write the same events, or answers to them.
    pub(super) async fn take_events(self, tx: &impl ConnectionTrait, uris: BTreeSet<&String>) -> Result<()> {
        match self {
            Self::Alone => Ok(()),
            Self::Beside => db::lock(tx, &uris.into_iter().collect::<Vec<_>>()).await,
        }
    }
}

/// The accounts that wrote a batch of nothing but records, if it is not too large.
fn authors(parts: &[Validated], most: usize) -> Option<BTreeSet<&str>> {
    let mut authors = BTreeSet::new();
    let mut events = 0;
    for message in parts.iter().flat_map(|part| &part.messages) {
        match message {
            Deduped::Candidate(Mapped::Record(change)) => {
                authors.insert(&*change.did);
                // An answer may go from one event to another.
                events += if is_event(&change.collection) { 1 } else { 2 };
            }
            Deduped::Known | Deduped::Refused(_) | Deduped::Candidate(Mapped::Nothing) => {}
            Deduped::Candidate(_) => return None,
        }
    }
    (authors.len() + events <= most).then_some(authors)
}
