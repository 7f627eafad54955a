//! On PostgreSQL, unique keys that begin with what tells rows apart instead of the tenant.
//!
//! As long as a table has never been analysed, the planner takes any one tenant for a small part of it: it then reads the
//! whole tenant along the index and compares every row with every name of a batch.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::columns::run;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Index, table, and the column beside `tenant_id`.
const KEYS: [(&str, &str, &str); 3] =
    [("user_did", r#""user""#, "did"), ("event_slug", "event", "slug"), ("event_record", "event", "record_uri")];

async fn remake(manager: &SchemaManager<'_>, order: impl Fn(&str) -> String) -> Result<(), DbErr> {
    if manager.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for (index, table, column) in KEYS {
        let columns = order(column);
        let statements = [format!("DROP INDEX {index}"), format!("CREATE UNIQUE INDEX {index} ON {table} ({columns})")];
        run(manager, &statements.each_ref().map(String::as_str)).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        remake(manager, |column| format!("{column}, tenant_id")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        remake(manager, |column| format!("tenant_id, {column}")).await
    }
}
