//! Calendar records of the AT Protocol network, `community.lexicon.calendar.*`.
//!
//! Most live records break the lexicon somewhere, so reading is lenient and the deviations are told in the verdict. Only
//! a record without the one thing that makes it what it is, an event's name or an RSVP's subject and answer, is unreadable.

mod event;
mod place;
mod rsvp;
mod told;

use std::sync::Arc;

use serde_json::Value;

pub use self::told::PAGE;
pub(super) use self::told::merge;
use super::{Draft, Kind, RSVP_BYTES, Reading, Refusal, lenient::Reader, only_answer};

/// Collection of events.
pub const EVENT: &str = "community.lexicon.calendar.event";
/// Collection of answers.
pub const RSVP: &str = "community.lexicon.calendar.rsvp";
/// Collection of the one record in which an account describes itself.
pub const PROFILE: &str = "app.bsky.actor.profile";

/// The collection of such records.
pub fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => EVENT,
        Kind::Rsvp => RSVP,
    }
}

/// Key of what is kept of a person's answer while nobody has told that of its record: there is one for each event.
pub fn unnamed_answer(event: &str) -> String {
    format!("integration-{}", only_answer(event))
}

/// Reads a record's JSON text.
pub fn read(kind: Kind, record: &str) -> Reading {
    if kind == Kind::Rsvp && record.len() > RSVP_BYTES {
        let why = format!("an RSVP has at most {RSVP_BYTES} bytes, this one {}", record.len());
        return unreadable("RSVP_TOO_LARGE", why, Vec::new());
    }
    let value: Value = match serde_json::from_str(record) {
        Ok(value) => value,
        Err(error) => return unreadable("RECORD_NOT_JSON", error.to_string(), Vec::new()),
    };
    let Some(fields) = value.as_object() else {
        return unreadable("RECORD_NOT_OBJECT", "a record is a JSON object".into(), Vec::new());
    };
    let mut reader = Reader::new(fields);
    if reader.field("$type").and_then(Value::as_str) != Some(collection(kind)) {
        reader.note("TYPE_MISMATCH");
    }
    let draft = match kind {
        Kind::Event => event::read(&mut reader).map(|draft| Draft::Event(Arc::new(draft))),
        Kind::Rsvp => rsvp::read(&mut reader).map(Draft::Rsvp),
    };
    Reading::of(draft, reader.into_issues())
}

fn unreadable(code: &'static str, why: String, issues: Vec<&'static str>) -> Reading {
    Reading::of(Err(Refusal { code, why }), issues)
}
