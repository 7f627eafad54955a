//! The tenants that a service key may write to.

use sea_orm::entity::prelude::*;

/// One tenant of one key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_key_tenant")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: i64,
    /// Tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: i64,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
