//! The embedded key-value store, and the fences of locks.

use sea_orm_migration::prelude::*;

use crate::columns::{bytes, instant, leave_room, long, run, text};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 3] = ["kv_entry", "kv_lock", "kv_fence"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("kv_entry")
                    .col(text("key").primary_key())
                    .col(bytes("value"))
                    .col(instant("expires_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("kv_lock")
                    .col(text("key").primary_key())
                    .col(text("owner"))
                    .col(long("fence"))
                    .col(instant("expires_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create().table("kv_fence").col(text("key").primary_key()).col(long("fence")).to_owned(),
            )
            .await?;
        // The sweep asks what has expired. Locks are few, and without an index their renewals touch none.
        run(manager, &["CREATE INDEX kv_entry_expiry ON kv_entry (expires_at)"]).await?;
        for table in TABLES {
            leave_room(manager, table).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
