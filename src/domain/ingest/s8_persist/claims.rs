//! What programs say of records, made whole beside what the ledger holds: under the lock, so that of two updates at the same
//! time none is built on what the other has replaced.

use std::collections::HashMap;

use entities::source_record as record;
use sea_orm::ConnectionTrait;

use super::{Effect, Work, ledger::Ledger, subject_of};
use crate::{
    domain::{
        ingest::{
            parked::{Parked, Stage},
            revision,
            s4_map::{Claimed, Content, Mapped, RecordChange, Version},
            s5_dedupe::Deduped,
            s7_validate::settle,
        },
        source::{Draft, Kind, Source, bluesky, web::Shelf},
    },
    error::Result,
    infra::atproto::syntax::{AtUri, RecordKey},
};

impl Work {
    /// Decides about one claim.
    pub(super) fn take_claim(&mut self, claim: &Claimed) -> Effect {
        let held = self.ledger.current(&claim.uri).cloned();
        if held.as_ref().is_some_and(|held| held.did != claim.author) {
            let why = "the identifier is that of another person's answer";
            return Effect::Parked(Parked::at(Stage::Attribute, "SOURCE_AMBIGUOUS", why));
        }
        if let Some(held) = &held
            && held.cid.is_some()
            && held.cid == claim.cid
        {
            return self.take_same(claim, held);
        }
        match &claim.content {
            Content::Gone => self.take_deletion(claim, held.as_ref()),
            Content::Whole(version) => self.take_version(claim, held.as_ref(), version.clone()),
            Content::Fields(fields) => self.take_fields(claim, held.as_ref(), fields),
        }
    }

    /// The very version that is held: of it only the revision can be news.
    fn take_same(&mut self, claim: &Claimed, held: &record::Model) -> Effect {
        if let (Some(rev), Some(record)) = (&claim.rev, &held.record) {
            let (cid, reading) = (held.cid.clone(), claim.source.read(record));
            let mut version = Version { cid, reading, record: record.clone() };
            settle(&mut version, claim.occurred_at.unwrap_or(self.now));
            let change = self.change(claim, rev.clone(), Some(version));
            self.take_record(&change);
        }
        Effect::Unchanged
    }

    fn take_deletion(&mut self, claim: &Claimed, held: Option<&record::Model>) -> Effect {
        let Some(held) = held.filter(|held| held.deleted_at.is_none()) else { return Effect::Unchanged };
        let rev = revision::deleting(self.now, &held.rev);
        if rev <= held.rev {
            let why = "the record claims to be later than everything that can be said of it";
            return Effect::Parked(Parked::at(Stage::Dedupe, "REVISION_AHEAD", why));
        }
        let effect = self.take_record(&self.change(claim, rev, None));
        if let Effect::Applied { .. } = effect {
            self.items.forget(&claim.uri);
        }
        effect
    }

    fn take_version(&mut self, claim: &Claimed, held: Option<&record::Model>, mut version: Version) -> Effect {
        match (claim.source, &mut version.reading.draft) {
            // Of what it cannot say nothing is taken: it would take the place of what can be read.
            (_, Err(refusal)) => {
                return Effect::Parked(Parked::at(Stage::Map, refusal.code, refusal.why.clone()));
            }
            (Source::Web(_), Ok(Draft::Rsvp(answer))) => self.items.resolve(&mut answer.event_uri),
            _ => {}
        }
        settle(&mut version, claim.occurred_at.unwrap_or(self.now));
        let held = held.map(|held| held.rev.as_str());
        // Beside a record of its author's own, what a program says is a guess.
        let is_guess = matches!(claim.source, Source::Bluesky(_));
        let rev = claim.rev.clone().unwrap_or_else(|| revision::arriving(self.now, held, is_guess));
        self.take_record(&self.change(claim, rev, Some(version)))
    }

    fn take_fields(&mut self, claim: &Claimed, held: Option<&record::Model>, fields: &str) -> Effect {
        let known = held.and_then(|held| held.record.as_deref());
        let item = match claim.source {
            Source::Web(at @ Shelf { kind: Kind::Event, .. }) => Some((at, self.items.place(at, claim, fields))),
            _ => None,
        };
        // The first words of another record about an event that is known are an update of it.
        let twin = item.as_ref().filter(|_| known.is_none());
        let twin = twin.and_then(|(_, place)| self.items.newest(&place.event_uri, &self.ledger));
        let base = known.or(twin.and_then(|twin| twin.record.as_deref()));
        let record = claim.source.merge(base, fields);
        if record.len() > self.limit {
            let why = format!("with what is held the record has {} bytes", record.len());
            return Effect::Parked(Parked::at(Stage::Receive, "RECORD_TOO_LARGE", why));
        }
        let says_nothing = known == Some(record.as_str());
        let version = Version { cid: None, reading: claim.source.read(&record), record };
        let effect = self.take_version(claim, held, version.clone());
        let Effect::Applied { .. } = effect else { return effect };
        if let (Some((at, place)), Ok(Draft::Event(draft))) = (item, &version.reading.draft)
            && let Some(method) = self.items.attach(&claim.uri, at, draft, place)
        {
            *self.persisted.matches.entry(method).or_default() += 1;
        }
        // Its time is taken, so that an earlier one cannot come after it.
        if says_nothing { Effect::Unchanged } else { effect }
    }

    /// What programs said of a person's answer without knowing its record goes with the record, when its author deletes it or
    /// answers another event with it: a guess is less than the author's own word, whenever that was. What programs say after
    /// that counts again.
    pub(super) fn retire_unnamed(&mut self, change: &RecordChange, event: &str) {
        let Some(uri) = unnamed_beside(&change.uri, event) else { return };
        let Some(held) = self.ledger.living_rev(uri.to_string().as_str()) else { return };
        if revision::is_guess(&change.rev) {
            return;
        }
        let is_guess = revision::is_guess(held);
        let rev = if is_guess { revision::deleting(self.now, held) } else { change.rev.clone() };
        let gone = RecordChange {
            uri: uri.to_string(),
            did: change.did.clone(),
            collection: change.collection.clone(),
            rkey: uri.rkey.into_string(),
            rev,
            occurred_at: change.occurred_at,
            version: None,
        };
        if self.ledger.judge(&gone).is_news() {
            self.ledger.take(&gone);
        }
    }

    fn change(&self, claim: &Claimed, rev: String, version: Option<Version>) -> RecordChange {
        RecordChange {
            uri: claim.uri.clone(),
            did: claim.author.clone(),
            collection: claim.collection.clone(),
            rkey: claim.rkey.clone(),
            rev,
            occurred_at: claim.occurred_at.unwrap_or(self.now),
            version,
        }
    }
}

/// Looks up what [`Work::retire_unnamed`] may take away, before anything is decided.
pub(super) async fn find_unnamed(tx: &impl ConnectionTrait, messages: &[Deduped], ledger: &mut Ledger) -> Result<()> {
    // The event that an answer of this batch is for.
    let mut answered: HashMap<&str, &str> = HashMap::new();
    let mut uris = Vec::new();
    for message in messages {
        let (uri, after) = match message {
            Deduped::Candidate(Mapped::Record(change)) if change.collection == bluesky::RSVP => {
                (change.uri.as_str(), subject_of(change))
            }
            Deduped::Candidate(Mapped::Claim(claim)) if claim.collection == bluesky::RSVP => (claim.uri.as_str(), None),
            _ => continue,
        };
        let before = answered.get(uri).copied().or_else(|| ledger.answered(uri));
        if let Some(before) = before.filter(|before| Some(*before) != after) {
            uris.extend(unnamed_beside(uri, before).map(|uri| uri.to_string()));
        }
        answered.extend(after.map(|after| (uri, after)));
    }
    ledger.look_up(tx, &uris).await
}

/// Where the ledger keeps what programs say of the same person's answer to this event without knowing a record of it; nothing
/// for that itself.
fn unnamed_beside(uri: &str, event: &str) -> Option<AtUri> {
    let uri: AtUri = uri.parse().ok()?;
    let rkey = RecordKey::parse(&bluesky::unnamed_answer(event)).ok()?;
    (uri.rkey != rkey).then_some(AtUri { rkey, ..uri })
}
