//! `community.lexicon.calendar.rsvp`.

use entities::sets::RsvpStatus;
use serde_json::Value;

use crate::{
    domain::source::{Refusal, RsvpDraft, lenient::Reader},
    infra::atproto::syntax::{AtUri, Cid},
};

/// Bytes of an AT-URI.
const URI_LIMIT: usize = 1_024;

const STATUSES: [(&str, RsvpStatus); 3] =
    [("interested", RsvpStatus::Maybe), ("going", RsvpStatus::Confirmed), ("notgoing", RsvpStatus::Cancelled)];

pub(super) fn read(reader: &mut Reader<'_>) -> Result<RsvpDraft, Refusal> {
    let Some(subject) = reader.field("subject") else {
        return Err(Refusal { code: "RSVP_SUBJECT_MISSING", why: "an RSVP names the event that it answers".into() });
    };
    let address = subject.as_str().or_else(|| subject.get("uri").and_then(Value::as_str)).unwrap_or_default();
    let event_uri = address
        .trim()
        .parse::<AtUri>()
        .map_err(|error| error.to_string())
        // Longer ones cannot be looked up by an index, and no event that is accepted has one.
        .and_then(|uri| if uri.to_string().len() > URI_LIMIT { Err("is too long".into()) } else { Ok(uri) })
        .map_err(|why| Refusal { code: "RSVP_SUBJECT_INVALID", why: format!("the subject's URI {why}") })?;
    let event_cid = subject.get("cid").and_then(Value::as_str).filter(|cid| Cid::parse(cid).is_ok()).map(str::to_owned);
    if event_cid.is_none() {
        reader.note("RSVP_SUBJECT_CID_MISSING");
    }
    let status = if reader.field("status").is_none() {
        // The lexicon's own default.
        reader.note("RSVP_STATUS_MISSING");
        RsvpStatus::Confirmed
    } else {
        // An answer that nobody can read is not an answer: guessing would count people who never came.
        reader.token("status", &STATUSES, "RSVP_STATUS_SHORT").ok_or_else(|| Refusal {
            code: "RSVP_STATUS_UNKNOWN",
            why: "the answer is none of interested, going, notgoing".into(),
        })?
    };
    // Not in the lexicon, but written by most.
    let created_at = reader.instant("createdAt", "CREATED_AT_MALFORMED");
    Ok(RsvpDraft { event_uri: event_uri.to_string(), event_cid, status, created_at })
}
