//! A person in a tenant: a member, or the shadow account of an author who has not joined; or the shadow account of a site.

use sea_orm::entity::prelude::*;

use crate::{
    preferences::Bluesky,
    sets::{SourceType, UserRole},
};

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// Linked DID, unique in the tenant.
    pub did: Option<String>,
    /// Nobody has claimed the account.
    pub is_shadow_account: bool,
    /// Which origin made the account known.
    pub provider: SourceType,
    /// Site that the events of this account come from, unique in tenant and provider; null for people.
    pub source_name: Option<String>,
    /// What a member may do in the tenant; null for shadow accounts, and for nobody else.
    pub role: Option<UserRole>,
    /// Name that the member goes by; null where only the handle is known.
    pub display_name: Option<String>,
    /// Address of a member who has one; null for shadow accounts.
    pub email: Option<String>,
    /// Link to the account on the network; null where none was ever made.
    pub preferences_bluesky: Option<Bluesky>,
    /// First seen.
    pub created_at: DateTimeUtc,
    /// Last change.
    pub updated_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
