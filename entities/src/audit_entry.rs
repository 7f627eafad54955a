//! What was done to accounts, by whom, and when. Entries are written with the deed and never changed.

use sea_orm::entity::prelude::*;

use crate::{location::Texts, sets::AuditAction};

/// One deed. It names accounts without a foreign key, because it outlives them.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entry")]
pub struct Model {
    /// Key; later deeds have larger ones.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// Who did it: a DID, the number of a member without one, the public part of a key, or `operator`.
    pub actor: String,
    /// What was done.
    pub action: AuditAction,
    /// The account that it was done to.
    pub user_id: i64,
    /// DID of that account at the time.
    pub did: Option<String>,
    /// The other account, where there are two: the one that was merged into the first.
    pub other_user_id: Option<i64>,
    /// What it led to, such as `events=3`.
    pub details: Texts,
    /// When.
    pub at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
