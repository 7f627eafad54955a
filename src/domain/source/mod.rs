//! What is known of each origin: its wire types, how a record becomes a draft, and which rules it follows.
//!
//! A new source is one file here and two lines: its variant in [`Source`] and its arm in [`Source::of_collection`].

pub mod bluesky;
pub mod lenient;

use chrono::{DateTime, Utc};
use entities::{
    location::{Link, Location},
    sets::{EventMode, EventStatus, EventVisibility, RsvpStatus, Verdict},
};

/// Collections that are ingested.
pub const COLLECTIONS: [&str; 2] = [bluesky::EVENT, bluesky::RSVP];

/// An origin of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Calendar records of the AT Protocol network.
    Bluesky(bluesky::Kind),
}

impl Source {
    /// Which source a collection of the network belongs to; `None` for collections that nobody asked for.
    pub fn of_collection(collection: &str) -> Option<Self> {
        match collection {
            bluesky::EVENT => Some(Self::Bluesky(bluesky::Kind::Event)),
            bluesky::RSVP => Some(Self::Bluesky(bluesky::Kind::Rsvp)),
            _ => None,
        }
    }

    /// Reads a record as leniently as it goes.
    pub fn read(self, record: &str) -> Reading {
        match self {
            Self::Bluesky(kind) => bluesky::read(kind, record),
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
    /// An event.
    Event(Box<EventDraft>),
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
    /// The best known point: coordinates before a Foursquare place before an H3 cell. Degrees north, degrees east.
    pub point: Option<(f64, f64)>,
    /// Creation, as the record says.
    pub created_at: Option<DateTime<Utc>>,
}

/// An answer as its record says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsvpDraft {
    /// AT-URI of the event.
    pub event_uri: String,
    /// Version of the event that was answered.
    pub event_cid: Option<String>,
    /// The answer.
    pub status: RsvpStatus,
    /// Creation, as the record says.
    pub created_at: Option<DateTime<Utc>>,
}
