//! Stage 7: what a draft may say here, whoever wrote it.

use chrono::{DateTime, Utc};

use super::{s4_map::Mapped, s5_dedupe::Deduped, s6_route::Routed};
use crate::domain::{
    source::{Draft, EventDraft},
    tenant::Tenant,
};

/// A batch that may be persisted.
#[derive(Debug)]
pub(super) struct Validated {
    pub(super) tenant: Tenant,
    pub(super) messages: Vec<Deduped>,
}

pub(super) fn validate(routed: Routed) -> Validated {
    let Routed { tenant, mut messages } = routed;
    for message in &mut messages {
        if let Deduped::Candidate(Mapped::Record(change)) = message
            && let Some(version) = &mut change.version
            && let Ok(Draft::Event(event)) = &mut version.reading.draft
        {
            settle_creation(event, change.occurred_at);
        }
    }
    Validated { tenant, messages }
}

/// A creation after the record was seen would keep an event on top of every list that is ordered by it.
fn settle_creation(event: &mut EventDraft, seen: DateTime<Utc>) {
    event.created_at = event.created_at.filter(|created| *created <= seen);
}
