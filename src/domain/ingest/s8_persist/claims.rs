//! What programs say of records, made whole beside what the ledger holds: under the lock, so that of two updates at the same
//! time none is built on what the other has replaced.

use entities::source_record as record;

use super::{Effect, Work, items::is_of_network};
use crate::domain::{
    ingest::{
        parked::{Parked, Stage},
        revision,
        s4_map::{Claimed, Content, RecordChange, Version},
        s7_validate::settle,
    },
    source::{Draft, Kind, Source, web::Shelf},
};

impl Work {
    /// Decides about one claim.
    pub(super) fn take_claim(&mut self, claim: &Claimed) -> Effect {
        let held = self.ledger.current(&claim.uri).cloned();
        if held.as_ref().is_some_and(|held| held.did != claim.author) {
            let why = "the identifier is that of another person's answer";
            return Effect::Parked(Parked::at(Stage::Attribute, "SOURCE_AMBIGUOUS", why));
        }
        match &claim.content {
            Content::Gone => self.take_deletion(claim, held.as_ref()),
            Content::Whole(version) => self.take_version(claim, held.as_ref(), version.clone()),
            Content::Fields(fields) => self.take_fields(claim, held.as_ref(), fields),
        }
    }

    fn take_deletion(&mut self, claim: &Claimed, held: Option<&record::Model>) -> Effect {
        let Some(held) = held.filter(|held| held.deleted_at.is_none()) else { return Effect::Unchanged };
        let rev = revision::deleting(self.now, &held.rev);
        if rev <= held.rev {
            let why = "the record claims to be later than everything that can be said of it";
            return Effect::Parked(Parked::at(Stage::Persist, "REVISION_AHEAD", why));
        }
        let effect = self.take_record(&self.change(claim, rev, None));
        if let Effect::Applied { .. } = effect {
            self.items.forget(&claim.uri);
        }
        effect
    }

    fn take_version(&mut self, claim: &Claimed, held: Option<&record::Model>, mut version: Version) -> Effect {
        // Beside a record of its author's own, what a program says is a guess.
        let mut is_guess = matches!(claim.source, Source::Bluesky(_));
        let mut rev = claim.rev.clone();
        if let (Source::Web(_), Ok(Draft::Rsvp(answer))) = (claim.source, &mut version.reading.draft) {
            self.items.resolve(&mut answer.event_uri);
            is_guess = is_of_network(&answer.event_uri);
            rev = rev.map(|rev| if is_guess { revision::as_guess(&rev) } else { rev });
        }
        settle(&mut version, claim.occurred_at.unwrap_or(self.now));
        let held = held.map(|held| held.rev.as_str());
        let rev = rev.unwrap_or_else(|| revision::arriving(self.now, held, is_guess));
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
