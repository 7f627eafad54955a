//! The embedded queue.

use sea_orm::entity::prelude::*;

/// A message that waits or is being worked on; acknowledging it deletes it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "queue_message")]
pub struct Model {
    /// Order of arrival.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Which consumers it is for.
    pub topic: String,
    /// Messages of one key are delivered one after the other.
    pub partition_key: String,
    /// The message.
    pub body: String,
    /// Deliveries that ended in a retry.
    pub attempts: i32,
    /// Not to be delivered before.
    pub available_at: DateTimeUtc,
    /// Who works on it; null while it waits.
    pub lease_owner: Option<String>,
    /// When the lease ends by itself.
    pub leased_until: Option<DateTimeUtc>,
    /// Arrival.
    pub enqueued_at: DateTimeUtc,
    /// What its publisher was doing, as a W3C traceparent; null where nobody traces.
    pub cause: Option<String>,
    /// Leases that ended with nothing said about it, the last one not counted before it is taken again.
    pub losses: i32,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
