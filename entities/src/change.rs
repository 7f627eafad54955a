//! The log of committed changes of events, which subscriptions replay and follow.

use sea_orm::entity::prelude::*;

use crate::{
    location::Texts,
    sets::{ChangeOperation, SourceType},
};

/// One change. It carries what filters look at, because a deleted event can no longer be asked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "change")]
pub struct Model {
    /// Position in the log: rows become visible in this order, so nothing older appears behind a reader.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// Event; it may be gone.
    pub event_id: i64,
    /// AT-URI of the event's record.
    pub event_uri: Option<String>,
    /// What happened.
    pub operation: ChangeOperation,
    /// Names of the changed fields as in the GraphQL type `Event`; empty unless `operation` is `updated`.
    pub changed_fields: Texts,
    /// Origin of the event.
    pub source_type: SourceType,
    /// DID of the organiser.
    pub organizer_did: Option<String>,
    /// Start of the event.
    pub starts_at: Option<DateTimeUtc>,
    /// Degrees north of its first known point.
    pub latitude: Option<f64>,
    /// Degrees east of its first known point.
    pub longitude: Option<f64>,
    /// When it happened at its source.
    pub occurred_at: DateTimeUtc,
    /// When it was committed here.
    pub ingested_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
