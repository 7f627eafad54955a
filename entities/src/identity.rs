//! What is known of an account of the AT Protocol network, whether or not it has ever joined OpenMeet.

use sea_orm::entity::prelude::*;

use crate::sets::{AccountStatus, HandleStatus};

/// One DID.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "identity")]
pub struct Model {
    /// Decentralised identifier.
    #[sea_orm(primary_key, auto_increment = false)]
    pub did: String,
    /// Handle that the DID document claims; to be shown only when `handle_status` is `verified`.
    pub handle: Option<String>,
    /// What the last check of the handle found.
    pub handle_status: HandleStatus,
    /// Origin of the personal data server.
    pub pds: Option<String>,
    /// Status at the host.
    pub account_status: AccountStatus,
    /// When the host set that status; an older account event changes nothing.
    pub status_at: Option<DateTimeUtc>,
    /// Revision at which the account was deleted: records up to it are gone for good, in whatever order they arrive.
    pub purged_rev: Option<String>,
    /// When the directory was last asked with success.
    pub checked_at: Option<DateTimeUtc>,
    /// When the directory is to be asked next.
    pub next_check_at: DateTimeUtc,
    /// Failures since the last success.
    pub check_attempts: i32,
    /// First seen.
    pub created_at: DateTimeUtc,
    /// Last change.
    pub updated_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
