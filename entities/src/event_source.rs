//! Which event a record that a program brought tells of, and how that was found.
//!
//! Records of the network have no row here: each of them is the one record of its event.

use sea_orm::entity::prelude::*;

use crate::sets::MatchMethod;

/// One living record.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_source")]
pub struct Model {
    /// URI of the record in the ledger.
    #[sea_orm(primary_key, auto_increment = false)]
    pub uri: String,
    /// Tenant.
    pub tenant_id: i64,
    /// `record_uri` of the event; the record's own where it was the first.
    pub event_uri: String,
    /// How that was found.
    pub method: MatchMethod,
    /// Hash of source, page and start; null without a page.
    pub page: Option<String>,
    /// Hash of source, site, name, start and place; null where one of them is missing.
    pub fingerprint: Option<String>,
    /// When the record last said something.
    pub matched_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
