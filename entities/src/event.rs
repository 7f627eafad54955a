//! A calendar event.

use sea_orm::entity::prelude::*;

use crate::{
    location::{Links, Locations},
    sets::{EventMode, EventStatus, EventVisibility, SourceType},
};

/// One event.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// Organiser.
    pub user_id: i64,
    /// Readable key, unique in the tenant; stays when the name changes.
    pub slug: String,
    /// Title.
    pub name: String,
    /// Description as plain text or Markdown.
    pub description: Option<String>,
    /// Start; the lexicon does not demand one.
    pub starts_at: Option<DateTimeUtc>,
    /// End.
    pub ends_at: Option<DateTimeUtc>,
    /// IANA zone that the organiser plans in.
    pub time_zone: Option<String>,
    /// Lifecycle.
    pub status: EventStatus,
    /// How people attend.
    pub mode: EventMode,
    /// Who may see it.
    pub visibility: EventVisibility,
    /// Places.
    pub locations: Locations,
    /// Links.
    pub links: Links,
    /// Degrees north of the first known point.
    pub latitude: Option<f64>,
    /// Degrees east of the first known point.
    pub longitude: Option<f64>,
    /// That point on the unit sphere: with it a distance is three products, on any database.
    pub sphere_x: Option<f64>,
    /// See `sphere_x`.
    pub sphere_y: Option<f64>,
    /// See `sphere_x`.
    pub sphere_z: Option<f64>,
    /// Name and description, folded for text search.
    pub search_text: String,
    /// Origin.
    pub source_type: SourceType,
    /// Identifier at the origin: the author's DID for records of the network, else that of the event.
    pub source_id: Option<String>,
    /// Page at the origin.
    pub source_url: Option<String>,
    /// URI of the first record that told of it, an AT-URI or of a program's form; unique in the tenant.
    pub record_uri: Option<String>,
    /// Version of the record.
    pub record_cid: Option<String>,
    /// Revision of the repository that brought this version.
    pub record_rev: Option<String>,
    /// The organiser's account is not active: shown to nobody and counted nowhere.
    pub is_hidden: bool,
    /// Answers `confirmed` of active accounts.
    pub confirmed_count: i32,
    /// Answers `maybe` of active accounts.
    pub maybe_count: i32,
    /// Answers `cancelled` of active accounts.
    pub cancelled_count: i32,
    /// Creation, as the record says, else first seen.
    pub created_at: DateTimeUtc,
    /// Last change committed here.
    pub updated_at: DateTimeUtc,
    /// First seen.
    pub ingested_at: DateTimeUtc,
    /// Last agreement with the record.
    pub last_synced_at: Option<DateTimeUtc>,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
