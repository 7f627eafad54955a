//! The database: one handle over SQLite and PostgreSQL, and the only place where a transaction begins.
//!
//! Reads go to [`Db::read`]; everything that writes goes through [`Db::transact`]. On SQLite there is one writing
//! connection (`BEGIN IMMEDIATE`, so that no upgrade of a lock can fail half-way) beside many readers; on PostgreSQL both
//! are one pool at READ COMMITTED, and what must not interleave takes [`lock`]s.

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ColumnTrait, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    RuntimeErr, SqliteTransactionMode, SqlxError, Statement, TransactionOptions, TransactionTrait, Value,
    sea_query::{Expr, ExprTrait, ValueType, extension::postgres::PgFunc},
};
use tracing::debug;
use url::Url;

use crate::error::{Error, Result};

/// A running transaction.
pub type Tx = Arc<DatabaseTransaction>;

/// How often a transaction is run again after a deadlock or a serialisation failure.
const TRIES: u32 = 6;

/// Page cache of SQLite's writer, in the unit of its pragma: 16 MB, which a batch fits in.
const WRITER_CACHE: &str = "-16000";
/// Page cache of each reader: 2 MB, since the pages that count are in the system's cache as well.
const READER_CACHE: &str = "-2000";

/// Where the database is and how much of it to use.
#[derive(Clone, Debug)]
pub struct DbSettings {
    /// `sqlite://path` or `postgres://…`.
    pub url: String,
    /// Connections to PostgreSQL, or readers of SQLite.
    pub max_connections: u32,
}

/// Handle to the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    statements: Arc<AtomicU64>,
}

impl Db {
    /// Connects. A SQLite file and its folder are made when they are missing.
    pub async fn connect(settings: &DbSettings) -> Result<Self> {
        let statements = Arc::new(AtomicU64::new(0));
        let sqlite = settings.url.starts_with("sqlite:");
        if sqlite {
            make_folder(&settings.url)?;
        }
        let writer_size = if sqlite { 1 } else { settings.max_connections };
        let writer = open(settings, writer_size, WRITER_CACHE, &statements).await?;
        let reader = if sqlite {
            open(settings, settings.max_connections, READER_CACHE, &statements).await?
        } else {
            writer.clone()
        };
        Ok(Self { reader, writer, statements })
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// For reading. Several statements on it do not see one snapshot.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Runs `work` in one transaction, and again from the start when the database had to break it off in favour of
    /// another one. `work` may therefore run several times: it must do nothing that a rollback does not undo.
    ///
    /// The transaction is handed over as a shared handle instead of a reference, because a closure over a reference makes
    /// a future that the compiler cannot prove to be `Send`. It must not be kept.
    pub async fn transact<T, F>(&self, work: impl Fn(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(&work).await {
                Err(error) if tries < TRIES && wants_retry(&error) => {
                    debug!(tries, error = error.chain(), "transaction is run again");
                    let pause = Duration::from_millis(fastrand::u64(1..=(10 << tries)));
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt<T, F>(&self, work: &impl Fn(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let tx = self.begin().await?;
        let tx = Arc::new(tx);
        let outcome = work(Arc::clone(&tx)).await;
        // Dropped while somebody keeps it, the transaction is rolled back.
        let tx =
            Arc::into_inner(tx).ok_or_else(|| Error::bug(anyhow::anyhow!("a transaction outlived its closure")))?;
        match outcome {
            Ok(value) => {
                tx.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // When the connection is gone the rollback has happened anyway; the first error is the one to tell.
                if let Err(lost) = tx.rollback().await {
                    debug!(error = %lost, "rollback failed");
                }
                Err(error)
            }
        }
    }

    /// Brings the schema up to date, as a whole or not at all. Any number of processes may call it at once: the lock, or
    /// SQLite's single writer, lets them look one after the other, and ends with the transaction even when one is killed.
    pub async fn migrate(&self) -> Result<()> {
        let tx = self.begin().await?;
        lock(&tx, &["migrate"]).await?;
        Migrator::up(&tx, None).await?;
        Ok(tx.commit().await?)
    }

    async fn begin(&self) -> Result<DatabaseTransaction> {
        let sqlite_transaction_mode = (self.backend() == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
        Ok(self.writer.begin_with_options(TransactionOptions { sqlite_transaction_mode, ..Default::default() }).await?)
    }

    /// Succeeds when the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.reader.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// Statements sent since the start, for tests that bound them and for a metric.
    pub fn statement_count(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}

/// Holds back every other transaction that names one of `keys`, until this one ends. Keys are taken in the given order:
/// sort them, or two transactions may wait for each other (PostgreSQL then breaks one off and [`Db::transact`] runs it
/// again). On SQLite there is one writer anyway.
pub async fn lock(tx: &impl ConnectionTrait, keys: &[impl AsRef<str> + Sync]) -> Result<()> {
    if tx.get_database_backend() != DbBackend::Postgres || keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
    let sql = "SELECT count(pg_advisory_xact_lock(hashtextextended(k, 0))) FROM unnest($1::text[]) AS k";
    tx.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [keys.into()])).await?;
    Ok(())
}

/// `column` is one of `values`, as one bound parameter: the statement's text, and with it its plan, stays the same for any
/// number of values.
pub fn among<T: Into<Value> + serde::Serialize + ValueType>(
    backend: DbBackend,
    column: impl ColumnTrait,
    values: Vec<T>,
) -> Expr
where
    Vec<T>: Into<Value>,
{
    let column = column.into_expr();
    if backend == DbBackend::Postgres {
        return column.eq(PgFunc::any(values));
    }
    let list = serde_json::to_string(&values).unwrap_or_default();
    Expr::cust_with_exprs("? IN (SELECT value FROM json_each(?))", [column, Expr::value(list)])
}

/// Rows in pieces of which each makes one INSERT. Their lengths are powers of two: so there are only a few statements,
/// which the database reads and plans once, and not one for each number of rows that a batch may have.
pub fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    /// SQLite takes 32,766 values in one statement; the widest table has some forty columns.
    const LONGEST: usize = 512;
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = LONGEST.min(1 << rest.len().checked_ilog2()?);
        let (piece, later) = rest.split_at(length);
        rest = later;
        Some(piece)
    })
}

/// Pairs as a table `wanted (one, other)` of a statement whose first parameters they are. To be joined by CROSS JOIN and
/// WHERE, which to SQLite means: go through the pairs and look each one up.
pub fn bind_pairs<T: serde::Serialize + ValueType>(
    backend: DbBackend,
    one: Vec<T>,
    other: Vec<T>,
) -> (&'static str, Vec<Value>)
where
    Vec<T>: Into<Value>,
{
    if backend == DbBackend::Postgres {
        // Their types come from what they are bound as.
        return ("unnest($1, $2) AS wanted (one, other)", vec![one.into(), other.into()]);
    }
    let pairs: Vec<(T, T)> = one.into_iter().zip(other).collect();
    let list = serde_json::to_string(&pairs).unwrap_or_default();
    ("(SELECT value ->> 0 AS one, value ->> 1 AS other FROM json_each($1)) AS wanted", vec![list.into()])
}

/// A list of numbers as the first parameter of a statement: the comparison that goes behind the column, and its value.
pub fn bind_list(backend: DbBackend, values: &[i64]) -> (&'static str, Value) {
    if backend == DbBackend::Postgres {
        ("= ANY($1)", values.to_vec().into())
    } else {
        ("IN (SELECT value FROM json_each($1))", serde_json::to_string(values).unwrap_or_default().into())
    }
}

async fn open(
    settings: &DbSettings,
    size: u32,
    cache: &'static str,
    statements: &Arc<AtomicU64>,
) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(without_tls_to_ourselves(&settings.url));
    options
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(10))
        // On PostgreSQL: nothing here takes so long, but a search that somebody made to.
        .statement_timeout(Duration::from_secs(30))
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        // A connection that was used a moment ago needs no question whether it lives.
        .test_before_acquire_if_idle_for(Duration::from_secs(15))
        .map_sqlx_sqlite_opts(move |options| {
            options
                .create_if_missing(true)
                .busy_timeout(Duration::from_secs(20))
                .pragma("journal_mode", "WAL")
                // With a WAL a crash of the process loses nothing; FULL also keeps a power cut from undoing a commit.
                .pragma("synchronous", "FULL")
                .pragma("cache_size", cache)
                .pragma("temp_store", "MEMORY")
        })
        .map_sqlx_postgres_opts(|options| options.application_name("openmeet-gateway"));
    let mut connection = Database::connect(options).await?;
    let statements = Arc::clone(statements);
    connection.set_metric_callback(move |_| {
        statements.fetch_add(1, Ordering::Relaxed);
    });
    Ok(connection)
}

/// A connection to this very machine is not encrypted unless its URL asks for it. It would guard nothing, and the driver
/// leaves Nagle's algorithm on: a statement of several TLS records then waits 40 ms for an acknowledgement.
fn without_tls_to_ourselves(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    // An address in a URL of a scheme that is not the web's is kept as text.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let is_postgres = matches!(url.scheme(), "postgres" | "postgresql");
    if is_postgres && is_local && !url.query_pairs().any(|(key, _)| matches!(&*key, "sslmode" | "ssl-mode")) {
        url.query_pairs_mut().append_pair("sslmode", "disable");
    }
    url.into()
}

fn make_folder(url: &str) -> Result<()> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or(path);
    match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|source| Error::Unavailable { service: "database", source: source.into() }),
        _ => Ok(()),
    }
}

impl From<DbErr> for Error {
    /// A lost connection and what passes by itself mean that the database is away; everything else, such as a statement
    /// that it refuses, is a mistake of ours.
    fn from(error: DbErr) -> Self {
        let is_away = match &error {
            DbErr::ConnectionAcquire(_) => true,
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => match &**cause {
                SqlxError::Database(refusal) => refusal.code().is_some_and(|code| is_transient(&code)),
                SqlxError::Io(_)
                | SqlxError::Tls(_)
                | SqlxError::PoolTimedOut
                | SqlxError::PoolClosed
                | SqlxError::WorkerCrashed => true,
                _ => false,
            },
            _ => false,
        };
        if is_away { Self::Unavailable { service: "database", source: error.into() } } else { Self::Bug(error.into()) }
    }
}

/// SQLSTATE classes of PostgreSQL, and result codes of SQLite, that pass by themselves.
fn is_transient(code: &str) -> bool {
    // 08 connection, 40 rollback (serialisation, deadlock), 53 resources, 55 lock not available, 57 shutdown, 58 I/O
    let postgres = code.len() == 5 && ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    // 5 busy, 6 locked, 10 I/O, 13 full, 14 cannot open; extended codes carry these in the low byte
    let sqlite = code.len() < 5 && code.parse::<u32>().is_ok_and(|c| [5, 6, 10, 13, 14].contains(&(c & 0xff)));
    postgres || sqlite
}

/// Deadlock and serialisation failure (40xxx) and a unique key that a neighbour took first (23505) pass when the
/// transaction looks again; so does a busy SQLite file.
fn wants_retry(error: &Error) -> bool {
    let (Error::Unavailable { source, .. } | Error::Bug(source)) = error else { return false };
    let Some(DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) =
        source.downcast_ref::<DbErr>()
    else {
        return false;
    };
    let Some(database) = cause.as_database_error() else { return false };
    let code = database.code().unwrap_or_default();
    database.is_unique_violation() || code.starts_with("40") || (code.len() < 5 && is_transient(&code))
}
