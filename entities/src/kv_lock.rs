//! Locks of the embedded key-value store.

use sea_orm::entity::prelude::*;

/// Who holds a lock, until it expires or is released.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "kv_lock")]
pub struct Model {
    /// `NAMESPACE:lock:NAME`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// What only the holder knows.
    pub owner: String,
    /// Number of this holding.
    pub fence: i64,
    /// First instant at which anybody may take it.
    pub expires_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
