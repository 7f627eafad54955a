//! What was put aside is found by its record, and counted by kind, without reading all of it.

use sea_orm_migration::prelude::*;

use crate::columns::run;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                "CREATE INDEX ingest_failure_kind ON ingest_failure (state, stage, code, last_failed_at)",
                "CREATE INDEX ingest_failure_uri ON ingest_failure (uri, last_failed_at) WHERE uri IS NOT NULL",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX ingest_failure_uri", "DROP INDEX ingest_failure_kind"]).await
    }
}
