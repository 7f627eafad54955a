//! Locks by name, which last until the transaction ends. On SQLite there is one writer anyway.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::sync::OnceCell;

use super::refusal::is_overdue;
use crate::error::{Error, Result};

/// Holds back every other transaction that names one of `keys`, until this one ends. Keys are taken in the given order:
/// sort them, or two transactions may wait for each other (PostgreSQL then breaks one off and
/// [`Db::transact`](super::Db::transact) runs it again). On SQLite there is one writer anyway.
pub async fn lock(tx: &impl ConnectionTrait, keys: &[impl AsRef<str> + Sync]) -> Result<()> {
    if tx.get_database_backend() != DbBackend::Postgres || keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
    let sql = "SELECT count(pg_advisory_xact_lock(hashtextextended(k, 0))) FROM unnest($1::text[]) AS k";
    wait(tx, Statement::from_sql_and_values(DbBackend::Postgres, sql, [keys.into()])).await
}

/// Takes one of `keys` as [`lock()`] does: one that is free, else it waits for any of them.
pub async fn lock_one_of(tx: &impl ConnectionTrait, keys: &[&str]) -> Result<()> {
    if tx.get_database_backend() != DbBackend::Postgres || keys.is_empty() {
        return Ok(());
    }
    // In any order: who has to wait does not always wait for the same.
    let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    fastrand::shuffle(&mut keys);
    // The second is only looked at when the first has found none.
    let sql = "SELECT COALESCE(
        (SELECT true FROM unnest($1::text[]) AS k WHERE pg_try_advisory_xact_lock(hashtextextended(k, 0)) LIMIT 1),
        (SELECT count(pg_advisory_xact_lock(hashtextextended($1[1], 0))) > 0))";
    wait(tx, Statement::from_sql_and_values(DbBackend::Postgres, sql, [keys.into()])).await
}

/// Who takes many locks may wait for each of them for a while, and for all together longer than a statement may take. That is
/// no mistake of the statement, which did nothing but wait.
async fn wait(tx: &impl ConnectionTrait, statement: Statement) -> Result<()> {
    match tx.query_one_raw(statement).await {
        Ok(_) => Ok(()),
        Err(error) if is_overdue(&error) => Err(Error::Unavailable { service: "database", source: error.into() }),
        Err(error) => Err(error.into()),
    }
}

/// How many locks the server has room for, all transactions together; it fails when there are more.
#[derive(Debug, Default)]
pub(super) struct Room(OnceCell<usize>);

impl Room {
    /// Asked of the server once.
    pub(super) async fn size(&self, tx: &impl ConnectionTrait) -> Result<usize> {
        if tx.get_database_backend() != DbBackend::Postgres {
            return Ok(usize::MAX);
        }
        let ask = async {
            // As its documentation has it of max_locks_per_transaction.
            let sql = "SELECT current_setting('max_locks_per_transaction')::bigint
                * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)";
            let row = tx.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
            let size: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
            Ok(size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default())
        };
        self.0.get_or_try_init(|| ask).await.copied()
    }
}
