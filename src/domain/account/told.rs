//! What readers of events are told when it is about an account.

use chrono::{DateTime, Utc};
use entities::{event, sets::ChangeOperation};
use sea_orm::ConnectionTrait;

use crate::{
    domain::{
        change::{self, Entry},
        event::{outline::Outline, write::by_organizer},
        tenant::Tenant,
    },
    error::Result,
};

/// Tells of the listed events of these accounts that their organiser is another now, or is called so. To be called under the
/// lock of who writes projections. How many were told.
pub(super) async fn organizer(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    users: Vec<i64>,
    now: DateTime<Utc>,
) -> Result<usize> {
    updated(tx, &by_organizer(tx, tenant, users).await?, &["organizer"], now).await
}

/// Tells of those of these events that are listed that the fields have changed.
pub(super) async fn updated(
    tx: &impl ConnectionTrait,
    events: &[event::Model],
    fields: &[&'static str],
    now: DateTime<Utc>,
) -> Result<usize> {
    let listed = events.iter().map(Outline::from).filter(Outline::is_listed);
    let entry = |event| Entry { event, operation: ChangeOperation::Updated, fields: fields.to_vec(), occurred_at: now };
    let entries: Vec<Entry> = listed.map(entry).collect();
    let count = entries.len();
    change::append(tx, entries, now).await?;
    Ok(count)
}
