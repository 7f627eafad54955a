//! Keys of the integration API.

use sea_orm_migration::prelude::*;

use crate::columns::{bytes, instant, instant_null, json, key, long, text};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("service_key")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(text("name"))
                    .col(text("prefix").unique_key())
                    .col(bytes("hash"))
                    .col(json("source_types"))
                    .col(instant("created_at"))
                    .col(instant_null("last_used_at"))
                    .col(instant_null("revoked_at"))
                    .foreign_key(ForeignKey::create().from("service_key", "tenant_id").to("tenant", "id"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("service_key").to_owned()).await
    }
}
