//! Appending to the log.

use chrono::{DateTime, Utc};
use entities::{
    change,
    location::Texts,
    sets::{ChangeOperation, SourceType},
};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait,
};

use crate::{
    domain::event::outline::Outline,
    error::Result,
    infra::db::{insert, lock},
};

/// The key that writers lock from their first row to their commit, so that rows become visible in the order of their ids.
pub const LOCK: [&str; 1] = ["change"];

/// A change that is about to be told.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event: as it is now, or as it was when it went.
    pub event: Outline,
    /// What happened.
    pub operation: ChangeOperation,
    /// Names of the changed fields as in the GraphQL type `Event`; empty unless `operation` is `Updated`.
    pub fields: Vec<&'static str>,
    /// When it happened at its source.
    pub occurred_at: DateTime<Utc>,
}

/// Appends to the log, as the last thing before the commit: every other writer of the log waits until then.
pub async fn append(tx: &impl ConnectionTrait, entries: Vec<Entry>, now: DateTime<Utc>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    lock(tx, &LOCK).await?;
    let rows = entries.into_iter().map(|Entry { event, operation, fields, occurred_at }| change::ActiveModel {
        id: NotSet,
        tenant_id: Set(event.tenant_id),
        event_id: Set(event.id),
        event_uri: Set(event.record_uri),
        operation: Set(operation),
        changed_fields: Set(Texts(fields.iter().map(|field| (*field).to_owned()).collect())),
        source_type: Set(event.source_type),
        organizer_did: Set(event.source_id.filter(|_| event.source_type == SourceType::Bluesky)),
        starts_at: Set(event.starts_at),
        latitude: Set(event.latitude),
        longitude: Set(event.longitude),
        occurred_at: Set(occurred_at),
        ingested_at: Set(now),
    });
    insert(tx, rows.collect(), None).await
}
