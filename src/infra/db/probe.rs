//! Whether the database can be read and written, asked on a connection that nothing else uses: however long the
//! searches take that hold all the others, the answer comes.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    DbSettings, READER_CACHE,
    connect::{Purpose, STATEMENT, open},
    doubt::Doubt,
};
use crate::error::{Error, Result};

const PURPOSE: Purpose = Purpose { size: 1, cache: READER_CACHE, patience: Duration::from_millis(500) };

/// How long an answer is waited for before it is asked whether the server is there at all.
const SLOW: Duration = Duration::from_secs(1);
/// What the answer to that may take.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How long anything is waited for, also while the server is there: a connection of which the network has forgotten the other
/// end gives no answer either. Twice what the server lets a statement take, which is far more than a transaction does.
const LONGEST: Duration = Duration::from_secs(2 * STATEMENT.as_secs());

/// The connection, opened when it is needed first. Asked by one at a time.
#[derive(Clone)]
pub(super) struct Probe {
    settings: DbSettings,
    connection: Arc<Mutex<Option<DatabaseConnection>>>,
    /// Of the connections on which others are not answered.
    doubt: Doubt,
}

impl Probe {
    pub(super) fn new(settings: DbSettings, doubt: Doubt) -> Self {
        Self { settings, connection: Arc::default(), doubt }
    }

    /// Somebody's connection was cut: so are others, it may be.
    pub(super) fn distrust(&self) {
        self.doubt.rise();
    }

    pub(super) async fn ask(&self) -> Result<()> {
        if self.is_writable().await? {
            return Ok(());
        }
        Err(Error::Unavailable { service: "database", source: anyhow::anyhow!("it can be read but not written") })
    }

    /// Waits for an answer that was asked for on another connection, and gives up when it does not come because the server
    /// is away. A statement may take its time, and so may waiting for a connection that others use; but a minute for all of it.
    pub(super) async fn watch<T, E: From<DbErr>>(
        &self,
        backend: DbBackend,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.watch_for(backend, LONGEST, answer).await
    }

    async fn watch_for<T, E: From<DbErr>>(
        &self,
        backend: DbBackend,
        longest: Duration,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if backend != DbBackend::Postgres {
            // A file is no server that could be away.
            return answer.await;
        }
        let mut answer = pin!(answer);
        let end = Instant::now() + longest;
        loop {
            if let Ok(outcome) = timeout(SLOW.min(longest), &mut answer).await {
                return outcome;
            }
            if Instant::now() >= end {
                self.doubt.rise();
                return Err(DbErr::Custom("no answer came, though the server is there".to_owned()).into());
            }
            // Boxed: every future that begins a transaction would be as large as opening a connection.
            let looked = tokio::select! {
                biased;
                outcome = &mut answer => return outcome,
                looked = timeout(ANSWER, Box::pin(self.is_writable())) => looked,
            };
            let trouble = match looked {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.chain(),
                Err(_) => "it does not answer".to_owned(),
            };
            self.doubt.rise();
            return Err(DbErr::Conn(RuntimeErr::Internal(trouble)).into());
        }
    }

    /// Whether it can be written, if it answers.
    async fn is_writable(&self) -> Result<bool> {
        let mut kept = self.connection.lock().await;
        // Taken out: one that failed, or on which somebody did not wait for the answer, is not asked again.
        let connection = match kept.take() {
            Some(connection) => connection,
            None => open(&self.settings, PURPOSE, &Arc::new(AtomicU64::new(0)), &self.doubt).await?,
        };
        let is_writable = match connection.get_database_backend() {
            DbBackend::Postgres => postgres_writes(&connection).await?,
            _ => sqlite_writes(&connection).await?,
        };
        *kept = Some(connection);
        Ok(is_writable)
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // Nothing is left to be done for one that cannot be closed.
            let _ = connection.close().await;
        }
    }
}

/// A standby after a failover, for one, takes no writes.
async fn postgres_writes(connection: &DatabaseConnection) -> Result<bool> {
    let sql = "SELECT current_setting('transaction_read_only') = 'off' AS writable";
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    Ok(row.is_some_and(|row| row.try_get("", "writable").unwrap_or(false)))
}

/// SQLite opens a file that it may not write for reading, without a word. So something is written that changes nothing,
/// and taken back before it reaches the file.
async fn sqlite_writes(connection: &DatabaseConnection) -> Result<bool> {
    let immediate =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let tx = match connection.begin_with_options(immediate).await {
        Ok(tx) => tx,
        // Somebody is writing: so it can be written.
        Err(error) if code(&error) == Some(SQLITE_BUSY) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let sql = "PRAGMA user_version";
    let row = tx.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    let version: i32 = row.map_or(Ok(0), |row| row.try_get("", "user_version"))?;
    let written = tx.execute_unprepared(&format!("PRAGMA user_version = {version}")).await;
    tx.rollback().await?;
    match written {
        Ok(_) => Ok(true),
        Err(error) if code(&error) == Some(SQLITE_READONLY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

const SQLITE_BUSY: u32 = 5;
const SQLITE_READONLY: u32 = 8;

/// SQLite's primary result code.
fn code(error: &DbErr) -> Option<u32> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return None };
    let RuntimeErr::SqlxError(cause) = cause else { return None };
    let extended: u32 = cause.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings hold a password.
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_never_comes_is_not_waited_for_even_while_the_server_is_there() {
        let settings = DbSettings { url: "sqlite::memory:".to_owned(), max_connections: 1 };
        let probe = Probe::new(settings, Doubt::default());
        let never = pending::<Result<()>>();
        let error = probe.watch_for(DbBackend::Postgres, Duration::from_millis(20), never).await.unwrap_err();
        assert!(matches!(error, Error::Bug(_)), "the server is there: {}", error.chain());
    }
}
