//! Keys that may administer, and the history of what was put aside.

use sea_orm_migration::prelude::*;

use crate::columns::{flag, instant, key, long, run, text, text_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter().table("service_key").add_column(flag("is_admin").default(false).take()).to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("ingest_failure_log")
                    .col(key("id"))
                    .col(long("failure_id"))
                    .col(text("state"))
                    .col(text("stage"))
                    .col(text("code"))
                    .col(text("reason"))
                    .col(text_null("decided_by"))
                    .col(instant("at"))
                    .to_owned(),
            )
            .await?;
        run(
            manager,
            &[
                // The history of one message.
                "CREATE INDEX ingest_failure_log_failure ON ingest_failure_log (failure_id, id)",
                // The list without a state, and the two conditions that narrow most.
                "CREATE INDEX ingest_failure_last_failed_at ON ingest_failure (last_failed_at, id)",
                "CREATE INDEX ingest_failure_code ON ingest_failure (code, last_failed_at)",
                "CREATE INDEX ingest_failure_did ON ingest_failure (did, last_failed_at) WHERE did IS NOT NULL",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                "DROP INDEX ingest_failure_did",
                "DROP INDEX ingest_failure_code",
                "DROP INDEX ingest_failure_last_failed_at",
                "ALTER TABLE service_key DROP COLUMN is_admin",
            ],
        )
        .await?;
        manager.drop_table(Table::drop().table("ingest_failure_log").to_owned()).await
    }
}
