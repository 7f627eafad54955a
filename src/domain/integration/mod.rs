//! What programs bring over HTTP: events and answers of the network, as OpenMeet's processors see them, and those of other
//! origins, as scrapers do.
//!
//! Every item becomes a line and passes the pipeline like those of a stream, so that ledger, revisions and tombstones hold for
//! it; what was answered without an error is durable. An item that carries the record itself (`rawRecord`) with its revision
//! is what a stream would give. Every other is a claim: fields that stage 8 puts over those that are held (what is absent stays),
//! in the transaction that writes them, so that no two updates overwrite each other. Of the network such a claim makes a
//! record without `$type` and version, which the record itself replaces.
//!
//! Order: by the revision, else by `time_us`, else by arrival. Without a revision a copy of a record of the network is a
//! guess, which the network's own record overrules whenever it comes. Fields that come with the CID of the version that is
//! held say nothing beside it; only their revision is taken.

mod fields;
mod lexicon;
mod origin;
mod rate;
mod remove;
mod wire;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use chrono::TimeDelta;
use serde_json::{Value, value::RawValue};

use self::wire::{Content, Item};
pub use self::{
    rate::count,
    remove::{remove, remove_record},
};
pub use super::source::Kind;
use super::{
    account::shadow,
    event::write as event,
    ingest::{
        self, Parked, Stage,
        line::{Claim, CommitLine, of_claim, of_record},
    },
    key::ServiceKey,
    record,
    rsvp::write as rsvp,
    source::Source,
    tenant::Tenant,
};
use crate::{
    app::App,
    error::{Error, Result},
};

/// How far a program's clock may be ahead of ours.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not known.
    Created,
    /// It was known otherwise.
    Updated,
    /// It was known, or overtaken by a later revision.
    Unchanged,
    /// It was not known and tells of an event that was: it is taken for an update of that one, or for a copy of an event of
    /// the network, which speaks for itself.
    Duplicate,
    /// An answer whose event has not come yet, or is a copy of one of the network: it is kept until it is an event of its own.
    Waiting,
}

impl Outcome {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Duplicate => "duplicate",
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
    /// What [`remove()`] calls it.
    pub source_id: String,
}

/// Takes items, each for itself: one that is refused stops no other. They are given as JSON text and taken in this order.
///
/// An item fails with `Invalid` and its field, or with `Forbidden` when the key does not speak for its source, or when the
/// tenant takes no records of the network; all of them when our own system is away.
pub async fn submit(app: &App, key: &ServiceKey, kind: Kind, items: &[&str]) -> Result<Vec<Result<Receipt>>> {
    let latest = app.clock.now() + AHEAD;
    let read = |text: &&str| {
        let item = wire::read(kind, key, text, (app.config.ingest.max_record_bytes, latest))?;
        if let Source::Bluesky(_) = item.address.source {
            check_network(app, key)?;
        }
        Ok(item)
    };
    let batch: Vec<Result<Item>> = items.iter().map(read).collect();
    let good: Vec<&Item> = batch.iter().filter_map(|item| item.as_ref().ok()).collect();
    let lines = good.iter().map(|item| line(item)).collect::<Result<Vec<_>>>()?;
    let mut outcomes = ingest::submit(app, &lines).await?.into_iter();
    let shown = Shown::find(app, key.tenant, kind, &good).await?;
    let mut receipt = |item: Item| {
        let (slug, attendee) = shown.of(&item);
        let outcome = match outcomes.next().ok_or_else(unanswered)? {
            ingest::Outcome::Parked(parked) => {
                let field = match (parked.code, &item.content) {
                    // It is that of another person's answer.
                    ("SOURCE_AMBIGUOUS", _) => "sourceId",
                    (_, Content::Verbatim(_)) => "source.rawRecord",
                    (_, Content::Fields(_)) => "item",
                };
                return Err(refused(parked, field));
            }
            ingest::Outcome::Unchanged => Outcome::Unchanged,
            ingest::Outcome::Applied { .. } if kind == Kind::Rsvp && attendee.is_none() => Outcome::Waiting,
            ingest::Outcome::Applied { is_new: false } => Outcome::Updated,
            ingest::Outcome::Applied { .. } if shown.is_double(&item) => Outcome::Duplicate,
            ingest::Outcome::Applied { .. } => Outcome::Created,
        };
        Ok(Receipt { outcome, slug, attendee, source_id: item.id })
    };
    Ok(batch.into_iter().map(|item| item.and_then(&mut receipt)).collect())
}

/// What the pipeline is given of an item.
fn line(item: &Item) -> Result<String> {
    let (address, version) = (&item.address, &item.version);
    if let (Content::Verbatim(record), Some(rev), Some(at)) = (&item.content, &version.rev, version.at) {
        let commit = CommitLine {
            rev,
            operation: "update",
            collection: &address.collection,
            rkey: &address.rkey,
            record: Some(record),
            cid: version.cid.as_deref(),
        };
        return Ok(of_record(&address.author, at, commit));
    }
    let (operation, record) = match &item.content {
        Content::Verbatim(record) => ("put", record.clone()),
        Content::Fields(fields) => {
            let fields = Value::Object(fields.clone()).to_string();
            ("merge", RawValue::from_string(fields).map_err(Error::bug)?)
        }
    };
    let claim = Claim {
        operation: Cow::Borrowed(operation),
        collection: Cow::Borrowed(&address.collection),
        rkey: Cow::Borrowed(&address.rkey),
        rev: version.rev.as_deref().map(Cow::Borrowed),
        record: Some(&record),
        cid: version.cid.as_deref().map(Cow::Borrowed),
    };
    Ok(of_claim(&address.author, version.at, &claim))
}

/// What there is to show of some items.
#[derive(Default)]
struct Shown {
    /// The event that a record tells of, by the record's URI, where it is another one's.
    events: HashMap<String, String>,
    /// By the event's URI.
    slugs: HashMap<String, (i64, String)>,
    /// By the person's DID.
    people: HashMap<String, i64>,
    /// By event and person.
    answers: HashMap<(i64, i64), i64>,
}

impl Shown {
    async fn find(app: &App, tenant: Tenant, kind: Kind, items: &[&Item]) -> Result<Self> {
        let db = app.db.read();
        let uris: Vec<String> = items.iter().map(|item| event_of(item).to_owned()).collect();
        if uris.is_empty() {
            return Ok(Self::default());
        }
        let told = uris.iter().filter(|uri| !is_of_network(uri)).cloned().collect();
        let mut events = record::events_of(db, tenant, told).await?;
        // Who answers a copy does not answer the event that it is of.
        events.retain(|_, event| kind == Kind::Event || !is_of_network(event));
        let uris = uris.into_iter().map(|uri| events.get(&uri).cloned().unwrap_or(uri)).collect();
        let slugs = event::by_uri(db, tenant, uris).await?;
        let slugs = slugs.into_iter().map(|(uri, event)| (uri, (event.id, event.slug))).collect();
        let mut shown = Self { events, slugs, ..Self::default() };
        if kind == Kind::Rsvp {
            let people: HashSet<String> = items.iter().map(|item| item.address.author.clone()).collect();
            shown.people = shadow::find(db, tenant, people.into_iter().collect()).await?;
            let pairs = items.iter().filter_map(|item| shown.pair(item)).collect();
            let rows = rsvp::of(db, tenant, pairs).await?;
            shown.answers = rows.into_iter().map(|row| ((row.event_id, row.user_id), row.id)).collect();
        }
        Ok(shown)
    }

    fn event(&self, item: &Item) -> Option<&(i64, String)> {
        let uri = event_of(item);
        self.slugs.get(self.events.get(uri).map_or(uri, String::as_str))
    }

    fn pair(&self, item: &Item) -> Option<(i64, i64)> {
        Some((self.event(item)?.0, *self.people.get(&item.address.author)?))
    }

    /// Slug and answer.
    fn of(&self, item: &Item) -> (Option<String>, Option<i64>) {
        let slug = self.event(item).map(|(_, slug)| slug.clone());
        (slug, self.pair(item).and_then(|pair| self.answers.get(&pair)).copied())
    }

    /// Whether it tells of an event that another record told of before.
    fn is_double(&self, item: &Item) -> bool {
        self.events.get(&item.address.uri).is_some_and(|event| *event != item.address.uri)
    }
}

/// The URI of the event that an item is, or answers.
fn event_of(item: &Item) -> &str {
    item.subject.as_deref().unwrap_or(&item.address.uri)
}

fn is_of_network(uri: &str) -> bool {
    uri.starts_with("at://")
}

/// What whoever brought something is told when it was put aside.
fn refused(parked: Parked, field: &'static str) -> Error {
    if parked.stage == Stage::Persist {
        // It is no mistake of theirs that the tables refuse it, and what these say of it is not for callers.
        return Error::bug(anyhow::anyhow!("{}: {}", parked.code, parked.why));
    }
    Error::invalid(field, parked.code, parked.why)
}

/// Records of the network belong to the default tenant.
fn check_network(app: &App, key: &ServiceKey) -> Result<()> {
    if key.tenant == app.network {
        return Ok(());
    }
    Err(Error::Forbidden { why: "this tenant takes no records of the network" })
}

fn unanswered() -> Error {
    Error::bug(anyhow::anyhow!("an item has no outcome"))
}
