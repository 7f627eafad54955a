//! The embedded key-value store: values that expire.

use sea_orm::entity::prelude::*;

/// A value under a key. An expired one is as good as gone, whether it has been swept or not.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "kv_entry")]
pub struct Model {
    /// `NAMESPACE:KIND:ID`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// What was kept.
    pub value: Vec<u8>,
    /// First instant at which it is gone.
    pub expires_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
