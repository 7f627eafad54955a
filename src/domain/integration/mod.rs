//! What programs bring over HTTP: events and answers of the network, as OpenMeet's processors see them.
//!
//! Every item becomes the line that a stream would give and passes the pipeline like one, so that ledger, revisions and
//! tombstones hold for it; what was answered without an error is durable. An item that carries the record itself
//! (`rawRecord`) is kept verbatim. One that does not is a record made of its fields over those that are held (what is
//! absent stays), without `$type` and without a version: the record replaces it when it comes at the same revision.
//!
//! Deliberately absent: items of other origins than the network. They have no account and no revision to be judged by,
//! and are refused with `SOURCE_TYPE_UNSUPPORTED`.

mod remove;
mod wire;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, value::RawValue};

pub use self::remove::remove;
use self::wire::{Content, Item};
use super::{
    account::shadow,
    event::write as event,
    ingest::{
        self,
        line::{CommitLine, of_record},
    },
    key::ServiceKey,
    record,
    rsvp::write as rsvp,
    source::bluesky,
};
use crate::{
    app::App,
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, tid_of},
};

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ExternalEventDto`.
    Event,
    /// `ExternalRsvpDto`.
    Rsvp,
}

impl Kind {
    /// The collection of its records.
    pub fn collection(self) -> &'static str {
        match self {
            Self::Event => bluesky::EVENT,
            Self::Rsvp => bluesky::RSVP,
        }
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not known.
    Created,
    /// It was known otherwise.
    Updated,
    /// It was known, or overtaken by a later revision.
    Unchanged,
    /// An answer whose event has not come yet: it is kept until then.
    Waiting,
}

impl Outcome {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Waiting => "waiting",
        }
    }
}

/// The answer to an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What became of it.
    pub outcome: Outcome,
    /// Slug of the event; none where there is nothing to show.
    pub slug: Option<String>,
    /// Row of the answer, once its event is there.
    pub attendee: Option<i64>,
}

/// Takes items, each for itself: one that is refused stops no other. They are given as JSON text and taken in this order.
///
/// An item fails with `Invalid` and its field, or with `Forbidden` when the key does not speak for its source; all of them
/// with `Forbidden` when the key's tenant takes no records of the network, and when our own system is away.
pub async fn submit(app: &App, key: &ServiceKey, kind: Kind, items: &[&str]) -> Result<Vec<Result<Receipt>>> {
    check_tenant(app, key)?;
    let read = items.iter().map(|text| wire::read(kind, key, text, app.config.ingest.max_record_bytes));
    let mut receipts = Vec::with_capacity(items.len());
    let mut batch: Vec<Result<Item>> = Vec::new();
    let mut seen = HashSet::new();
    for item in read {
        // What is absent is taken from the version before, which has to be in the ledger for that.
        if let Ok(item) = &item
            && !seen.insert(item.uri.to_string())
        {
            receipts.extend(take(app, kind, std::mem::take(&mut batch)).await?);
            seen = HashSet::from([item.uri.to_string()]);
        }
        batch.push(item);
    }
    receipts.extend(take(app, kind, batch).await?);
    Ok(receipts)
}

/// Takes items of which no two are about one record.
async fn take(app: &App, kind: Kind, batch: Vec<Result<Item>>) -> Result<Vec<Result<Receipt>>> {
    let good: Vec<&Item> = batch.iter().filter_map(|item| item.as_ref().ok()).collect();
    let uris: Vec<String> = good.iter().map(|item| item.uri.to_string()).collect();
    if uris.is_empty() {
        return Ok(batch.into_iter().map(|item| item.and_then(|_| Err(unanswered()))).collect());
    }
    let db = app.db.read();
    let held = record::by_uris(db, uris.clone()).await?;
    let mut lines = Vec::new();
    // For each good item whether it was known before, and whether it has a line.
    let mut known = Vec::new();
    for (item, uri) in good.iter().zip(&uris) {
        let held = held.get(uri);
        let is_same = item.version.cid.is_some() && held.is_some_and(|held| held.cid == item.version.cid);
        if !is_same {
            lines.push(line(app, item, held.and_then(|held| held.record.as_deref()))?);
        }
        known.push((held.is_some(), !is_same));
    }
    let mut outcomes = ingest::submit(app, &lines).await?.into_iter();
    let shown = Shown::find(app, kind, &good, uris).await?;
    let mut known = known.into_iter();
    let mut receipt = |item: Item| {
        let (was_known, has_line) = known.next().ok_or_else(unanswered)?;
        let outcome = if has_line { outcomes.next().ok_or_else(unanswered)? } else { ingest::Outcome::Unchanged };
        let (slug, attendee) = shown.of(&item);
        let outcome = match outcome {
            ingest::Outcome::Parked(parked) => {
                let field = if let Content::Verbatim(_) = item.content { "source.rawRecord" } else { "item" };
                return Err(Error::invalid(field, parked.code, parked.why));
            }
            ingest::Outcome::Unchanged => Outcome::Unchanged,
            ingest::Outcome::Applied if kind == Kind::Rsvp && attendee.is_none() => Outcome::Waiting,
            ingest::Outcome::Applied if was_known => Outcome::Updated,
            ingest::Outcome::Applied => Outcome::Created,
        };
        Ok(Receipt { outcome, slug, attendee })
    };
    Ok(batch.into_iter().map(|item| item.and_then(&mut receipt)).collect())
}

/// The line that a stream would give.
fn line(app: &App, item: &Item, held: Option<&str>) -> Result<String> {
    let now = app.clock.now();
    let rev = item.version.rev.clone().unwrap_or_else(|| tid_of(item.version.at.unwrap_or(now)));
    let record = match &item.content {
        Content::Verbatim(record) => record.clone(),
        Content::Fields(fields) => RawValue::from_string(over(held, fields).to_string()).map_err(Error::bug)?,
    };
    let commit = CommitLine {
        rev: &rev,
        operation: "update",
        collection: item.uri.collection.as_str(),
        rkey: item.uri.rkey.as_str(),
        record: Some(&*record),
        // A version names the record itself, not what was made of its fields.
        cid: item.version.cid.as_deref().filter(|_| matches!(item.content, Content::Verbatim(_))),
    };
    Ok(of_record(item.uri.did.as_str(), item.version.at.unwrap_or(now), commit))
}

/// The held record with these fields in place of its own.
fn over(held: Option<&str>, fields: &Map<String, Value>) -> Value {
    let held = held.and_then(|held| serde_json::from_str(held).ok());
    let mut record: Map<String, Value> = held.unwrap_or_default();
    // It is no record of its author's, and must not pass for one.
    record.remove("$type");
    record.extend(fields.clone());
    Value::Object(record)
}

/// What there is to show of some items.
#[derive(Default)]
struct Shown {
    /// By the event's AT-URI.
    slugs: HashMap<String, (i64, String)>,
    /// By the person's DID.
    people: HashMap<String, i64>,
    /// By event and person.
    answers: HashMap<(i64, i64), i64>,
}

impl Shown {
    async fn find(app: &App, kind: Kind, items: &[&Item], uris: Vec<String>) -> Result<Self> {
        let db = app.db.read();
        let events = match kind {
            Kind::Event => uris,
            Kind::Rsvp => items.iter().filter_map(|item| item.subject.as_ref().map(AtUri::to_string)).collect(),
        };
        let events = event::by_uri(db, app.tenant, events).await?;
        let slugs = events.into_iter().map(|(uri, event)| (uri, (event.id, event.slug))).collect();
        let mut shown = Self { slugs, ..Self::default() };
        if kind == Kind::Rsvp {
            let people: HashSet<String> = items.iter().map(|item| item.uri.did.to_string()).collect();
            shown.people = shadow::find(db, app.tenant, people.into_iter().collect()).await?;
            let pairs = items.iter().filter_map(|item| shown.pair(item)).collect();
            let rows = rsvp::of(db, app.tenant, pairs).await?;
            shown.answers = rows.into_iter().map(|row| ((row.event_id, row.user_id), row.id)).collect();
        }
        Ok(shown)
    }

    fn pair(&self, item: &Item) -> Option<(i64, i64)> {
        let (event, _) = self.slugs.get(&item.subject.as_ref()?.to_string())?;
        Some((*event, *self.people.get(item.uri.did.as_str())?))
    }

    /// Slug and answer.
    fn of(&self, item: &Item) -> (Option<String>, Option<i64>) {
        let event = item.subject.as_ref().unwrap_or(&item.uri).to_string();
        let slug = self.slugs.get(&event).map(|(_, slug)| slug.clone());
        (slug, self.pair(item).and_then(|pair| self.answers.get(&pair)).copied())
    }
}

fn check_tenant(app: &App, key: &ServiceKey) -> Result<()> {
    if key.tenant == app.tenant {
        return Ok(());
    }
    Err(Error::Forbidden { why: "the tenant of this key takes no records of the network" })
}

fn unanswered() -> Error {
    Error::bug(anyhow::anyhow!("an item has no outcome"))
}
