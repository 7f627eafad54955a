//! What is known of each origin: its wire types, how a record becomes a draft, and which rules it follows.
//!
//! A new source is one file here and two lines: its variant in [`Source`] and its arm in [`Source::of_collection`].

pub mod bluesky;
pub mod lenient;
pub mod link;
pub mod web;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use entities::{
    location::{Link, Location},
    sets::{EventMode, EventStatus, EventVisibility, RsvpStatus, SourceType, Verdict},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Collections of the network that are ingested.
pub const COLLECTIONS: [&str; 2] = [bluesky::EVENT, bluesky::RSVP];
/// Collections whose changes say that a known account is to be looked at again; their records are not kept.
pub const WATCHED: [&str; 1] = [bluesky::PROFILE];

/// Characters of an event's title that are kept. No source has a limit, screens and indexes have.
const NAME_LIMIT: usize = 300;
/// Characters of a description that are kept.
const DESCRIPTION_LIMIT: usize = 30_000;
/// Links that are kept.
const LINKS_LIMIT: usize = 50;
/// Bytes that an answer may have. Those of the network have some hundreds; stage 8 reads many of them at once.
const RSVP_BYTES: usize = 16 * 1024;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event,
    /// An answer to an event.
    Rsvp,
}

/// Part of the name of an answer that has none: one for each person and event, whenever it comes.
pub fn only_answer(event: &str) -> String {
    let hash = BASE32_NOPAD_NOCASE.encode(&Sha256::digest(event)).to_ascii_lowercase();
    hash.chars().take(26).collect()
}

/// An origin of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Calendar records of the AT Protocol network.
    Bluesky(Kind),
    /// What programs bring to one tenant.
    Web(web::Shelf),
}

impl Source {
    /// Which source a collection of the ledger belongs to; `None` for collections that nobody asked for.
    pub fn of_collection(collection: &str) -> Option<Self> {
        match collection {
            bluesky::EVENT => Some(Self::Bluesky(Kind::Event)),
            bluesky::RSVP => Some(Self::Bluesky(Kind::Rsvp)),
            _ => web::Shelf::parse(collection).map(Self::Web),
        }
    }

    /// Reads a record as leniently as it goes.
    pub fn read(self, record: &str) -> Reading {
        match self {
            Self::Bluesky(kind) => bluesky::read(kind, record),
            Self::Web(at) => web::read(at, record),
        }
    }

    /// The record with these fields in place of its own; what they leave out stays as it was.
    pub fn merge(self, held: Option<&str>, fields: &str) -> String {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let (mut record, fields) = (held.map(object).unwrap_or_default(), object(fields));
        match self {
            Self::Bluesky(_) => bluesky::merge(&mut record, fields),
            Self::Web(_) => web::merge(&mut record, fields),
        }
        Value::Object(record).to_string()
    }

    /// Its name in rows and filters.
    pub fn source_type(self) -> SourceType {
        match self {
            Self::Bluesky(_) => SourceType::Bluesky,
            Self::Web(at) => at.source,
        }
    }
}

/// What could be made of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The draft, or why there is none.
    pub draft: Result<Draft, Refusal>,
    /// How well the record follows its lexicon.
    pub verdict: Verdict,
    /// Codes of the deviations, each once, in the order found.
    pub issues: Vec<&'static str>,
}

impl Reading {
    fn of(draft: Result<Draft, Refusal>, mut issues: Vec<&'static str>) -> Self {
        let verdict = match &draft {
            Ok(_) if issues.is_empty() => Verdict::Valid,
            Ok(_) => Verdict::Lenient,
            Err(refusal) => {
                issues.push(refusal.code);
                Verdict::Unreadable
            }
        };
        Self { draft, verdict, issues }
    }
}

/// Why nothing can be made of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable reason.
    pub code: &'static str,
    /// Text for people.
    pub why: String,
}

/// Mapped and not yet saved.
#[derive(Clone, Debug, PartialEq)]
pub enum Draft {
    /// An event. Shared, since whoever writes it may have to begin again.
    Event(Arc<EventDraft>),
    /// An answer to an event.
    Rsvp(RsvpDraft),
}

/// An event as its record says it.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// Title, never empty.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// Start.
    pub starts_at: Option<DateTime<Utc>>,
    /// End.
    pub ends_at: Option<DateTime<Utc>>,
    /// IANA zone.
    pub time_zone: Option<String>,
    /// Lifecycle.
    pub status: EventStatus,
    /// How people attend.
    pub mode: EventMode,
    /// Who may see it.
    pub visibility: EventVisibility,
    /// Places, in the record's order.
    pub locations: Vec<Location>,
    /// Links, in the record's order.
    pub links: Vec<Link>,
    /// Page at the source.
    pub page: Option<String>,
    /// The best known point: coordinates before a Foursquare place before an H3 cell. Degrees north, degrees east.
    pub point: Option<(f64, f64)>,
    /// Creation, as the record says.
    pub created_at: Option<DateTime<Utc>>,
    /// What a search looks into; stage 7 fills it in.
    pub search_text: String,
}

/// An answer as its record says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsvpDraft {
    /// URI of the event's record.
    pub event_uri: String,
    /// Version of the event that was answered.
    pub event_cid: Option<String>,
    /// The answer.
    pub status: RsvpStatus,
    /// Creation, as the record says.
    pub created_at: Option<DateTime<Utc>>,
}
