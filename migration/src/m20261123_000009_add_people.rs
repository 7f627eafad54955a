//! Members: what they may do and have chosen, their sessions, and the log of what was done to accounts.

use sea_orm_migration::prelude::*;

use crate::columns::{bytes, instant, instant_null, json, json_null, key, long, long_null, run, text, text_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// One statement for each: SQLite adds one column at a time.
fn new_columns() -> [ColumnDef; 4] {
    // A member without a role was once the result of two ways to sign in.
    let role = text_null("role").check(Expr::cust("is_shadow_account OR role IS NOT NULL")).take();
    [role, text_null("display_name"), text_null("email"), json_null("preferences_bluesky")]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in new_columns() {
            manager.alter_table(Table::alter().table("user").add_column(column).to_owned()).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("session")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(long("user_id"))
                    .col(text("kind"))
                    .col(text("prefix").unique_key())
                    .col(bytes("hash"))
                    .col(text_null("user_agent"))
                    .col(instant("created_at"))
                    .col(instant("last_used_at"))
                    .col(instant("expires_at"))
                    .col(instant("ends_at"))
                    .col(instant_null("revoked_at"))
                    .foreign_key(ForeignKey::create().from("session", "tenant_id").to("tenant", "id"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("session", "user_id")
                            .to("user", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("audit_entry")
                    .col(key("id"))
                    .col(long("tenant_id"))
                    .col(text("actor"))
                    .col(text("action"))
                    .col(long("user_id"))
                    .col(text_null("did"))
                    .col(long_null("other_user_id"))
                    .col(json("details"))
                    .col(instant("at"))
                    .foreign_key(ForeignKey::create().from("audit_entry", "tenant_id").to("tenant", "id"))
                    .to_owned(),
            )
            .await?;
        run(
            manager,
            &[
                // A member's own list, and the search for what has ended.
                "CREATE INDEX session_of_user ON session (user_id, created_at, id)",
                "CREATE INDEX session_expiry ON session (expires_at)",
                "CREATE INDEX audit_entry_at ON audit_entry (tenant_id, at, id)",
                "CREATE INDEX audit_entry_user ON audit_entry (tenant_id, user_id, id)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["audit_entry", "session"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        let columns = ["preferences_bluesky", "email", "display_name", "role"];
        let statements = columns.map(|column| format!(r#"ALTER TABLE "user" DROP COLUMN {column}"#));
        run(manager, &statements.each_ref().map(String::as_str)).await
    }
}
