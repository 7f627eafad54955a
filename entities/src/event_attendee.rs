//! One person's answer to one event.

use sea_orm::entity::prelude::*;

use crate::sets::{RsvpStatus, SourceType};

/// One answer; (event, user) is unique.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_attendee")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// Event.
    pub event_id: i64,
    /// Who answered.
    pub user_id: i64,
    /// The answer.
    pub status: RsvpStatus,
    /// Origin.
    pub source_type: SourceType,
    /// AT-URI of the record.
    pub record_uri: Option<String>,
    /// Version of the record.
    pub record_cid: Option<String>,
    /// Revision of the repository that brought this version; the newest of a person's records wins.
    pub record_rev: Option<String>,
    /// Version of the event that was answered.
    pub event_cid: Option<String>,
    /// The attendee's account is not active: shown to nobody and counted nowhere.
    pub is_hidden: bool,
    /// First answer.
    pub created_at: DateTimeUtc,
    /// Latest change of the answer.
    pub updated_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
