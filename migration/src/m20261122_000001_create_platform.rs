//! Tables that belong to no tenant, and the default tenant.

use sea_orm_migration::prelude::*;

use crate::columns::{counter, instant, instant_null, json, key, leave_room, long, run, text, text_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 6] = ["tenant", "identity", "source_record", "stream_cursor", "queue_message", "ingest_failure"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("tenant")
                    .col(key("id"))
                    .col(text("slug").unique_key())
                    .col(text("name"))
                    .col(instant("created_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("identity")
                    .col(text("did").primary_key())
                    .col(text_null("handle"))
                    .col(text("handle_status"))
                    .col(text_null("pds"))
                    .col(text("account_status"))
                    .col(instant_null("status_at"))
                    .col(text_null("purged_rev"))
                    .col(instant_null("checked_at"))
                    .col(instant("next_check_at"))
                    .col(counter("check_attempts"))
                    .col(instant("created_at"))
                    .col(instant("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("source_record")
                    .col(text("uri").primary_key())
                    .col(text("did"))
                    .col(text("collection"))
                    .col(text("rkey"))
                    .col(text("rev"))
                    .col(text_null("cid"))
                    .col(text_null("record"))
                    .col(text_null("subject_uri"))
                    .col(text("verdict"))
                    .col(json("issues"))
                    .col(instant_null("deleted_at"))
                    .col(instant("occurred_at"))
                    .col(instant("ingested_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("stream_cursor")
                    .col(text("endpoint").primary_key())
                    .col(long("position"))
                    .col(instant("updated_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("queue_message")
                    .col(key("id"))
                    .col(text("topic"))
                    .col(text("partition_key"))
                    .col(text("body"))
                    .col(counter("attempts"))
                    .col(instant("available_at"))
                    .col(text_null("lease_owner"))
                    .col(instant_null("leased_until"))
                    .col(instant("enqueued_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("ingest_failure")
                    .col(key("id"))
                    .col(text("payload_hash").unique_key())
                    .col(text("payload"))
                    .col(text_null("did"))
                    .col(text_null("uri"))
                    .col(text("stage"))
                    .col(text("code"))
                    .col(text("reason"))
                    .col(counter("attempts"))
                    .col(text("state"))
                    .col(instant("first_failed_at"))
                    .col(instant("last_failed_at"))
                    .col(instant_null("resolved_at"))
                    .to_owned(),
            )
            .await?;
        run(
            manager,
            &[
                // The sweep asks who is due.
                "CREATE INDEX identity_next_check ON identity (next_check_at)",
                // Handles are looked up in lower case.
                "CREATE INDEX identity_handle ON identity (handle) WHERE handle IS NOT NULL",
                // An account event walks through a repository.
                "CREATE INDEX source_record_did ON source_record (did, collection)",
                // A new event looks for the answers that came before it, a person's answers to it are compared.
                "CREATE INDEX source_record_subject ON source_record (subject_uri, did) WHERE subject_uri IS NOT NULL",
                // The oldest message of a topic, and whether an earlier one of its key is in the way.
                "CREATE INDEX queue_message_topic ON queue_message (topic, id)",
                "CREATE INDEX queue_message_partition ON queue_message (topic, partition_key, id)",
                "CREATE INDEX ingest_failure_state ON ingest_failure (state, last_failed_at)",
                "INSERT INTO tenant (slug, name, created_at) VALUES ('default', 'Default', CURRENT_TIMESTAMP)",
            ],
        )
        .await?;
        leave_room(manager, "source_record").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
