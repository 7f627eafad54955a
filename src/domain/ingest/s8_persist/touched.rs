//! What a batch did to events, as their readers see it: the rows of the change log, and the counts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entities::{event, sets::ChangeOperation};
use sea_orm::ConnectionTrait;

use crate::{
    domain::{
        change::{Entry, append},
        event::write as events,
        rsvp::write as rsvp,
    },
    error::Result,
};

/// Events by id, as they were before the batch and as they are after it.
#[derive(Default)]
pub(super) struct Touched {
    events: BTreeMap<i64, Pair>,
    latest: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Pair {
    before: Option<event::Model>,
    after: Option<event::Model>,
    answers: bool,
}

impl Touched {
    /// Notes when something happened at its source; the latest is what the log says.
    pub(super) fn happened(&mut self, at: DateTime<Utc>) {
        self.latest = self.latest.max(Some(at));
    }

    /// An event was made, changed or removed.
    pub(super) fn event(&mut self, before: Option<event::Model>, after: Option<event::Model>) {
        let Some(id) = after.as_ref().or(before.as_ref()).map(|event| event.id) else { return };
        match self.events.entry(id) {
            // Touched before in this batch: what it was at first stays what it was.
            std::collections::btree_map::Entry::Occupied(mut held) => held.get_mut().after = after,
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Pair { before, after, answers: false });
            }
        }
    }

    /// The answers to an event changed.
    pub(super) fn answers(&mut self, event: event::Model) {
        let held = self.events.entry(event.id).or_insert_with(|| Pair {
            before: Some(event.clone()),
            after: Some(event),
            answers: true,
        });
        held.answers = true;
    }

    /// URIs of the events that were not there before.
    pub(super) fn appeared(&self) -> impl Iterator<Item = &str> {
        self.events
            .values()
            .filter(|pair| pair.before.is_none())
            .filter_map(|pair| pair.after.as_ref()?.record_uri.as_deref())
    }

    /// Counts answers again and writes the log. Returns how many rows the log has got.
    pub(super) async fn write(&self, tx: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64> {
        let recount: Vec<i64> =
            self.events.iter().filter(|(_, pair)| pair.answers && pair.after.is_some()).map(|(id, _)| *id).collect();
        if !recount.is_empty() {
            rsvp::recount(tx, &recount).await?;
        }
        let entries: Vec<Entry<'_>> = self.events.values().filter_map(|pair| self.entry(pair, now)).collect();
        append(tx, &entries, now).await?;
        Ok(entries.len() as u64)
    }

    /// The change as a reader of lists sees it: what is hidden, unlisted or a draft is not there.
    fn entry<'a>(&self, pair: &'a Pair, now: DateTime<Utc>) -> Option<Entry<'a>> {
        let before = pair.before.as_ref().filter(|event| events::is_listed(event));
        let after = pair.after.as_ref().filter(|event| events::is_listed(event));
        let (operation, event, fields) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => (ChangeOperation::Created, after, Vec::new()),
            (Some(before), None) => (ChangeOperation::Deleted, before, Vec::new()),
            (Some(before), Some(after)) => {
                let mut fields = events::changed_fields(before, after);
                if pair.answers {
                    fields.push("attendance");
                }
                if fields.is_empty() {
                    return None;
                }
                (ChangeOperation::Updated, after, fields)
            }
        };
        Some(Entry { event, operation, fields, occurred_at: self.latest.unwrap_or(now) })
    }
}
