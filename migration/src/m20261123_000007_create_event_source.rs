//! What programs bring: which event each of their records tells of, accounts of the sites that the records come from, and
//! the tenants of a service key.

use sea_orm_migration::prelude::*;

use crate::columns::{instant, long, run, text, text_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: [&str; 6] = [
    // Another record of the same page, or of the same name, start and place.
    "CREATE INDEX event_source_page ON event_source (page) WHERE page IS NOT NULL",
    "CREATE INDEX event_source_fingerprint ON event_source (fingerprint) WHERE fingerprint IS NOT NULL",
    // All records that tell of one event.
    "CREATE INDEX event_source_event ON event_source (event_uri)",
    r#"ALTER TABLE "user" ADD COLUMN source_name text"#,
    // One account for each site that a source brings events of.
    r#"CREATE UNIQUE INDEX user_source ON "user" (tenant_id, provider, source_name) WHERE source_name IS NOT NULL"#,
    "INSERT INTO service_key_tenant (key_id, tenant_id) SELECT id, tenant_id FROM service_key",
];

const DOWN: [&str; 2] = ["DROP INDEX user_source", r#"ALTER TABLE "user" DROP COLUMN source_name"#];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("event_source")
                    .col(text("uri").primary_key())
                    .col(long("tenant_id"))
                    .col(text("event_uri"))
                    .col(text("method"))
                    .col(text_null("page"))
                    .col(text_null("fingerprint"))
                    .col(instant("matched_at"))
                    .foreign_key(ForeignKey::create().from("event_source", "tenant_id").to("tenant", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("service_key_tenant")
                    .col(long("key_id"))
                    .col(long("tenant_id"))
                    .primary_key(Index::create().col("key_id").col("tenant_id"))
                    .foreign_key(ForeignKey::create().from("service_key_tenant", "key_id").to("service_key", "id"))
                    .foreign_key(ForeignKey::create().from("service_key_tenant", "tenant_id").to("tenant", "id"))
                    .to_owned(),
            )
            .await?;
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await?;
        for table in ["service_key_tenant", "event_source"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
