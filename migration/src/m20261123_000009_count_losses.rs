//! What consumers were lost over: a message that kills whoever takes it does not come back for ever.

use sea_orm_migration::prelude::*;

use crate::columns::{counter, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter().table("queue_message").add_column(counter("losses")).to_owned();
        manager.alter_table(table).await?;
        // Of the few that were lost. An index of all would be written at every lease.
        run(manager, &["CREATE INDEX queue_message_lost ON queue_message (topic, id) WHERE losses > 0"]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX queue_message_lost"]).await?;
        manager.alter_table(Table::alter().table("queue_message").drop_column("losses").to_owned()).await
    }
}
