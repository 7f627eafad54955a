//! On PostgreSQL, the index of answers by record begins with the record instead of the tenant, for the reason that
//! `m20261123_000007_lead_with_names` gives: answers of known events were looked for among all answers of the tenant.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::columns::run;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

async fn remake(manager: &SchemaManager<'_>, columns: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let create = format!("CREATE INDEX attendee_record ON event_attendee ({columns})");
    run(manager, &["DROP INDEX attendee_record", &create]).await
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        remake(manager, "record_uri, tenant_id").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        remake(manager, "tenant_id, record_uri").await
    }
}
