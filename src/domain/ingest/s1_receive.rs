//! Stage 1: size and form of the message.

use super::{
    line::Line,
    parked::{Parked, Stage},
};

/// Room for everything in a line that is not the record.
const ENVELOPE_BYTES: usize = 16 * 1024;

/// A line of the right form.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) line: Line<'a>,
}

/// Whether a message is refused here for its length alone, whatever it says: nobody need carry it any further.
pub fn is_oversized(body: &str, max_record_bytes: usize) -> bool {
    body.len() > max_record_bytes.saturating_add(ENVELOPE_BYTES)
}

pub(super) fn receive(body: &str, max_record_bytes: usize) -> Result<Received<'_>, Parked> {
    if is_oversized(body, max_record_bytes) {
        return Err(Parked::at(Stage::Receive, "MESSAGE_TOO_LARGE", format!("the message has {} bytes", body.len())));
    }
    let line: Line<'_> = serde_json::from_str(body)
        .map_err(|error| Parked::at(Stage::Receive, "MESSAGE_MALFORMED", error.to_string()))?;
    let committed = line.commit.as_ref().and_then(|commit| commit.record);
    let record = committed.or(line.claim.as_ref().and_then(|claim| claim.record));
    match record.map(|record| record.get().len()) {
        Some(bytes) if bytes > max_record_bytes => {
            Err(Parked::at(Stage::Receive, "RECORD_TOO_LARGE", format!("the record has {bytes} bytes")))
        }
        _ => Ok(Received { line }),
    }
}
