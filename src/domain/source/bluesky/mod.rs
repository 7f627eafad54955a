//! Calendar records of the AT Protocol network, `community.lexicon.calendar.*`.
//!
//! Most live records break the lexicon somewhere, so reading is lenient and the deviations are told in the verdict. Only
//! a record without the one thing that makes it what it is, an event's name or an RSVP's subject and answer, is unreadable.

mod event;
mod link;
mod place;
mod rsvp;

use entities::sets::Verdict;
use serde_json::Value;

use super::{Draft, Reading, Refusal, lenient::Reader};

/// Collection of events.
pub const EVENT: &str = "community.lexicon.calendar.event";
/// Collection of answers.
pub const RSVP: &str = "community.lexicon.calendar.rsvp";

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`EVENT`].
    Event,
    /// [`RSVP`].
    Rsvp,
}

impl Kind {
    fn collection(self) -> &'static str {
        match self {
            Self::Event => EVENT,
            Self::Rsvp => RSVP,
        }
    }
}

/// Bytes that an RSVP may have. Those of the network have some hundreds; stage 8 reads many of them at once.
const RSVP_LIMIT: usize = 16 * 1024;

/// Reads a record's JSON text.
pub fn read(kind: Kind, record: &str) -> Reading {
    if kind == Kind::Rsvp && record.len() > RSVP_LIMIT {
        let why = format!("an RSVP has at most {RSVP_LIMIT} bytes, this one {}", record.len());
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
    if reader.field("$type").and_then(Value::as_str) != Some(kind.collection()) {
        reader.note("TYPE_MISMATCH");
    }
    let draft = match kind {
        Kind::Event => event::read(&mut reader).map(|draft| Draft::Event(Box::new(draft))),
        Kind::Rsvp => rsvp::read(&mut reader).map(Draft::Rsvp),
    };
    let issues = reader.into_issues();
    match draft {
        Err(refusal) => unreadable(refusal.code, refusal.why, issues),
        Ok(draft) => {
            let verdict = if issues.is_empty() { Verdict::Valid } else { Verdict::Lenient };
            Reading { draft: Ok(draft), verdict, issues }
        }
    }
}

fn unreadable(code: &'static str, why: String, mut issues: Vec<&'static str>) -> Reading {
    issues.push(code);
    Reading { draft: Err(Refusal { code, why }), verdict: Verdict::Unreadable, issues }
}
