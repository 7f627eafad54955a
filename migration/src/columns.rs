//! Column types that mean the same on both databases.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

/// Key that the database counts up and never hands out again.
pub(crate) fn key(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().take()
}

/// Text of any length.
pub(crate) fn text(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

/// Text of any length, or nothing.
pub(crate) fn text_null(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).text().null().take()
}

/// Bytes of any number.
pub(crate) fn bytes(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).blob().not_null().take()
}

/// UTC instant in microseconds.
pub(crate) fn instant(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).timestamp_with_time_zone().not_null().take()
}

/// UTC instant in microseconds, or nothing.
pub(crate) fn instant_null(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).timestamp_with_time_zone().null().take()
}

/// 64-bit number.
pub(crate) fn long(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

/// 64-bit number, or nothing.
pub(crate) fn long_null(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

/// Counter that starts at nought.
pub(crate) fn counter(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).integer().not_null().default(0).take()
}

/// Double-precision number, or nothing.
pub(crate) fn double_null(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).double().null().take()
}

/// Truth value.
pub(crate) fn flag(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().take()
}

/// JSON that queries can look into: `jsonb`, or text on SQLite.
pub(crate) fn json(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).json_binary().not_null().take()
}

/// JSON that queries can look into, or nothing.
pub(crate) fn json_null(name: impl IntoIden) -> ColumnDef {
    ColumnDef::new(name).json_binary().null().take()
}

/// Runs statements that read the same on both databases.
pub(crate) async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}

/// Tables that are rewritten all the time: PostgreSQL then keeps updates beside the old row instead of touching indexes.
pub(crate) async fn leave_room(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() == DbBackend::Postgres {
        let statement = format!(r#"ALTER TABLE "{table}" SET (fillfactor = 80)"#);
        manager.get_connection().execute_unprepared(&statement).await?;
    }
    Ok(())
}
