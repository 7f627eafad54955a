//! Accounts, events, answers and the change log of the tenants.

use sea_orm_migration::prelude::*;

use crate::columns::{
    counter, double_null, flag, instant, instant_null, json, key, leave_room, long, run, text, text_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Dependents first, as they are dropped.
const TABLES: [&str; 4] = ["change", "event_attendee", "event", "user"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("user")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(text_null("did"))
                    .col(flag("is_shadow_account"))
                    .col(text("provider"))
                    .col(instant("created_at"))
                    .col(instant("updated_at"))
                    .foreign_key(ForeignKey::create().from("user", "tenant_id").to("tenant", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("event")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(long("user_id"))
                    .col(text("slug"))
                    .col(text("name"))
                    .col(text_null("description"))
                    .col(instant_null("starts_at"))
                    .col(instant_null("ends_at"))
                    .col(text_null("time_zone"))
                    .col(text("status"))
                    .col(text("mode"))
                    .col(text("visibility"))
                    .col(json("locations"))
                    .col(json("links"))
                    .col(double_null("latitude"))
                    .col(double_null("longitude"))
                    .col(double_null("sphere_x"))
                    .col(double_null("sphere_y"))
                    .col(double_null("sphere_z"))
                    .col(text("search_text"))
                    .col(text("source_type"))
                    .col(text_null("source_id"))
                    .col(text_null("source_url"))
                    .col(text_null("record_uri"))
                    .col(text_null("record_cid"))
                    .col(text_null("record_rev"))
                    .col(flag("is_hidden"))
                    .col(counter("confirmed_count"))
                    .col(counter("maybe_count"))
                    .col(counter("cancelled_count"))
                    .col(instant("created_at"))
                    .col(instant("updated_at"))
                    .col(instant("ingested_at"))
                    .col(instant_null("last_synced_at"))
                    .foreign_key(ForeignKey::create().from("event", "tenant_id").to("tenant", "id"))
                    .foreign_key(ForeignKey::create().from("event", "user_id").to("user", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("event_attendee")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(long("event_id"))
                    .col(long("user_id"))
                    .col(text("status"))
                    .col(text("source_type"))
                    .col(text_null("record_uri"))
                    .col(text_null("record_cid"))
                    .col(text_null("record_rev"))
                    .col(text_null("event_cid"))
                    .col(flag("is_hidden"))
                    .col(instant("created_at"))
                    .col(instant("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("event_attendee", "event_id")
                            .to("event", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .foreign_key(ForeignKey::create().from("event_attendee", "user_id").to("user", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                // No foreign key to the event: the log outlives it.
                Table::create()
                    .table("change")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(long("event_id"))
                    .col(text_null("event_uri"))
                    .col(text("operation"))
                    .col(json("changed_fields"))
                    .col(text("source_type"))
                    .col(text_null("organizer_did"))
                    .col(instant_null("starts_at"))
                    .col(double_null("latitude"))
                    .col(double_null("longitude"))
                    .col(instant("occurred_at"))
                    .col(instant("ingested_at"))
                    .to_owned(),
            )
            .await?;
        run(
            manager,
            &[
                r#"CREATE UNIQUE INDEX user_did ON "user" (tenant_id, did)"#,
                r#"CREATE INDEX user_shadow ON "user" (tenant_id, created_at, id) WHERE is_shadow_account"#,
                "CREATE UNIQUE INDEX event_slug ON event (tenant_id, slug)",
                "CREATE UNIQUE INDEX event_record ON event (tenant_id, record_uri)",
                "CREATE INDEX event_organizer ON event (user_id, starts_at, id)",
                // One index for each order of the list, holding what is shown and nothing else.
                "CREATE INDEX event_by_start ON event (tenant_id, starts_at, id) WHERE NOT is_hidden",
                "CREATE INDEX event_by_creation ON event (tenant_id, created_at, id) WHERE NOT is_hidden",
                "CREATE INDEX event_by_update ON event (tenant_id, updated_at, id) WHERE NOT is_hidden",
                "CREATE INDEX event_by_attendance ON event (tenant_id, confirmed_count, id) WHERE NOT is_hidden",
                "CREATE INDEX event_by_point ON event (tenant_id, latitude, longitude) WHERE latitude IS NOT NULL",
                "CREATE UNIQUE INDEX attendee_event_user ON event_attendee (event_id, user_id)",
                "CREATE INDEX attendee_user ON event_attendee (user_id)",
                "CREATE INDEX attendee_record ON event_attendee (tenant_id, record_uri)",
                "CREATE INDEX attendee_by_event ON event_attendee (event_id, updated_at, id) WHERE NOT is_hidden",
                "CREATE INDEX attendee_by_update ON event_attendee (tenant_id, updated_at, id) WHERE NOT is_hidden",
                // Retention cuts the log by age.
                "CREATE INDEX change_ingested ON change (ingested_at)",
            ],
        )
        .await?;
        leave_room(manager, "event").await?;
        leave_room(manager, "event_attendee").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
