//! What a batch did to events, as their readers see it: the rows of the change log, and the counts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entities::{event::Model, sets::ChangeOperation};
use sea_orm::ConnectionTrait;

use crate::{
    domain::{
        change::{Entry, append},
        event::{
            outline::Outline,
            write::{changed_fields, is_listed},
        },
        rsvp::write as rsvp,
    },
    error::Result,
};

/// Name, as in the GraphQL type `Event`, of what answers change.
const ATTENDANCE: &str = "attendance";

/// Events by id, as they were before the batch and as they are after it.
#[derive(Default)]
pub(super) struct Touched {
    events: BTreeMap<i64, Pair>,
}

#[derive(Default)]
struct Pair {
    before: Option<Model>,
    after: Option<Model>,
    /// The event itself, where only its answers have changed.
    same: Option<Outline>,
    answers: bool,
    /// When the latest of it happened at its source.
    at: Option<DateTime<Utc>>,
}

impl Touched {
    /// An event was made, changed or removed.
    pub(super) fn event(&mut self, before: Option<Model>, after: Option<Model>, at: DateTime<Utc>) {
        let Some(id) = after.as_ref().or(before.as_ref()).map(|event| event.id) else { return };
        let held = self.events.entry(id).or_default();
        // Changed before in this batch: what it was at first stays what it was.
        if held.at.is_none() || held.same.take().is_some() {
            held.before = before;
        }
        held.after = after;
        held.at = held.at.max(Some(at));
    }

    /// The answers to an event changed.
    pub(super) fn answers(&mut self, event: &Outline, at: DateTime<Utc>) {
        let same = || Pair { same: Some(event.clone()), ..Pair::default() };
        let held = self.events.entry(event.id).or_insert_with(same);
        held.answers = true;
        held.at = held.at.max(Some(at));
    }

    /// The events as they are now, as far as this batch has written them.
    pub(super) fn written(&self) -> impl Iterator<Item = &Model> {
        self.events.values().filter_map(|pair| pair.after.as_ref())
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
        let is_counted = |pair: &Pair| pair.answers && (pair.after.is_some() || pair.same.is_some());
        let recount: Vec<i64> = self.events.iter().filter(|(_, pair)| is_counted(pair)).map(|(id, _)| *id).collect();
        if !recount.is_empty() {
            rsvp::recount(tx, &recount).await?;
        }
        let entries: Vec<Entry> = self.events.values().filter_map(|pair| entry(pair, now)).collect();
        let count = entries.len() as u64;
        append(tx, entries, now).await?;
        Ok(count)
    }
}

/// The change as a reader of lists sees it: what is hidden, unlisted or a draft is not there.
fn entry(pair: &Pair, now: DateTime<Utc>) -> Option<Entry> {
    let entry = |event, operation, fields| Entry { event, operation, fields, occurred_at: pair.at.unwrap_or(now) };
    if let Some(same) = pair.same.as_ref().filter(|event| event.is_listed()) {
        return pair.answers.then(|| entry(same.clone(), ChangeOperation::Updated, vec![ATTENDANCE]));
    }
    let before = pair.before.as_ref().filter(|event| is_listed(event));
    let after = pair.after.as_ref().filter(|event| is_listed(event));
    let (operation, event, fields) = match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => (ChangeOperation::Created, after, Vec::new()),
        (Some(before), None) => (ChangeOperation::Deleted, before, Vec::new()),
        (Some(before), Some(after)) => {
            let mut fields = changed_fields(before, after);
            fields.extend(pair.answers.then_some(ATTENDANCE));
            if fields.is_empty() {
                return None;
            }
            (ChangeOperation::Updated, after, fields)
        }
    };
    Some(entry(event.into(), operation, fields))
}
