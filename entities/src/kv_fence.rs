//! Fences: the highest number that was handed out to, or has acted as, the holder of a lock.

use sea_orm::entity::prelude::*;

/// One highest number.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "kv_fence")]
pub struct Model {
    /// The lock's key for what has acted; `*` for the highest that the embedded store has handed out.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// The number.
    pub fence: i64,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
