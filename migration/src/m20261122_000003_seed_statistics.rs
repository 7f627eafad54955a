//! What SQLite has to know about the sizes of tables before there is anything to measure.
//!
//! Without statistics it answers "these ids, of this tenant" by walking through the tenant, since it takes both for
//! equally rare. PostgreSQL measures by itself.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Table, index, and how many rows share the first one, two, … columns of it, in a tenant of 100,000 events.
const STATISTICS: [(&str, &str, &str); 15] = [
    ("event", "event_by_start", "100000 100000 10 1"),
    ("event", "event_by_creation", "100000 100000 10 1"),
    ("event", "event_by_update", "100000 100000 10 1"),
    ("event", "event_by_attendance", "100000 100000 1000 1"),
    ("event", "event_by_point", "100000 100000 10 10"),
    ("event", "event_organizer", "100000 50 2 1"),
    ("event", "event_slug", "100000 100000 1"),
    ("event", "event_record", "100000 100000 1"),
    ("event_attendee", "attendee_by_update", "100000 100000 10 1"),
    ("event_attendee", "attendee_by_event", "100000 10 1 1"),
    ("event_attendee", "attendee_event_user", "100000 10 1"),
    ("event_attendee", "attendee_user", "100000 10"),
    ("event_attendee", "attendee_record", "100000 100000 1"),
    ("user", "user_did", "100000 100000 1"),
    ("user", "user_shadow", "100000 100000 10 1"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        let db = manager.get_connection();
        // Makes the table that the statistics are kept in.
        db.execute_unprepared("ANALYZE").await?;
        for (table, index, rows) in STATISTICS {
            let statement =
                format!("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('{table}', '{index}', '{rows}')");
            db.execute_unprepared(&statement).await?;
        }
        // Reads them in; other connections do so when they open.
        db.execute_unprepared("ANALYZE sqlite_schema").await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Sqlite {
            manager.get_connection().execute_unprepared("DELETE FROM sqlite_stat1").await?;
        }
        Ok(())
    }
}
