//! Stage 7: what a draft may say here, whoever wrote it, and what follows from that.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    s4_map::{Mapped, Version},
    s5_dedupe::Deduped,
    s6_route::Routed,
};
use crate::domain::{
    event::search_text,
    source::{Draft, EventDraft},
    tenant::Tenant,
};

/// A batch that may be persisted.
#[derive(Debug)]
pub(super) struct Validated {
    pub(super) tenant: Tenant,
    pub(super) messages: Vec<Deduped>,
    pub(super) places: Vec<usize>,
}

pub(super) fn validate(routed: Routed) -> Validated {
    let Routed { tenant, mut messages, places } = routed;
    for message in &mut messages {
        if let Deduped::Candidate(Mapped::Record(change)) = message
            && let Some(version) = &mut change.version
        {
            settle(version, change.occurred_at);
        }
    }
    Validated { tenant, messages, places }
}

/// The rules for one version of a record. Stage 8 calls this for what it has put together itself.
pub(super) fn settle(version: &mut Version, seen: DateTime<Utc>) {
    if let Ok(Draft::Event(event)) = &mut version.reading.draft {
        settle_event(Arc::make_mut(event), seen);
    }
}

/// The rules for a draft, and what follows from it.
pub(super) fn settle_event(event: &mut EventDraft, seen: DateTime<Utc>) {
    settle_creation(event, seen);
    event.search_text = search_text(&[&event.name, event.description.as_deref().unwrap_or_default()].join(" "));
}

/// A creation after the record was seen would keep an event on top of every list that is ordered by it.
fn settle_creation(event: &mut EventDraft, seen: DateTime<Utc>) {
    event.created_at = event.created_at.filter(|created| *created <= seen);
}
