//! Opening connections, and what is said when that fails.

use std::{
    net::IpAddr,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, SqlxError,
    sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions},
};
use url::Url;

use super::{DbSettings, doubt::Doubt};
use crate::error::{Error, Result};

/// Time in which a server has to take a connection when a pool is opened.
const GREETING: Duration = Duration::from_secs(5);

/// What one statement may take on PostgreSQL: nothing here takes so long, but a search that somebody made to.
pub(super) const STATEMENT: Duration = Duration::from_secs(30);

/// How PostgreSQL is to choose plans, and how long it waits for whom.
const SETTINGS: [(&str, &str); 5] = [
    // The server's default counts a look-up as four times a page of a scan, as on a turning disk: then a few hundred keys of a
    // batch have it read whole tables.
    ("random_page_cost", "1.1"),
    // A plan is kept for as long as its connection, or until the server has measured the table. One that was made while a
    // table was nearly empty would read it from end to end still when it is large.
    ("enable_seqscan", "off"),
    // Where there is no other way than that, the server takes the statement for a very dear one, and would compile it.
    ("jit", "off"),
    // Between two statements of a transaction there is nothing but our own arithmetic. Who is silent for so long stands still
    // or is cut off, and lets go of what it has locked.
    ("idle_in_transaction_session_timeout", "10s"),
    // Longer than that: whoever waits for such a one has the lock then, and need not fail. Shorter than the limit of the
    // statement, by which a lock that does not come would look like a mistake of the statement, and of its message.
    ("lock_timeout", "15s"),
];

/// What connections are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// Most of them.
    pub(super) size: u32,
    /// SQLite's page cache of each, in the unit of its pragma.
    pub(super) cache: &'static str,
    /// How long another writer of a SQLite file is waited for.
    pub(super) patience: Duration,
}

/// Opens a pool, and one connection at once. Fails with the cause, and not only with the time that it took.
pub(super) async fn open(
    settings: &DbSettings,
    purpose: Purpose,
    statements: &Arc<AtomicU64>,
    doubt: &Doubt,
) -> Result<DatabaseConnection> {
    let url = without_tls_to_ourselves(&settings.url);
    greet(&url).await?;
    let Purpose { size, cache, patience } = purpose;
    let mut options = ConnectOptions::new(url);
    let (coming, going) = (doubt.clone(), doubt.clone());
    options
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(10))
        .statement_timeout(STATEMENT)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        // A connection that was used a moment ago needs no question whether it lives.
        .test_before_acquire_if_idle_for(Duration::from_secs(15))
        .map_sqlx_sqlite_opts(move |options| {
            options
                .create_if_missing(true)
                .busy_timeout(patience)
                .pragma("journal_mode", "WAL")
                // With a WAL a crash of the process loses nothing; FULL also keeps a power cut from undoing a commit.
                .pragma("synchronous", "FULL")
                .pragma("cache_size", cache)
                .pragma("temp_store", "MEMORY")
        })
        .map_sqlx_postgres_opts(|options| options.application_name("openmeet-gateway").options(SETTINGS))
        .map_sqlx_postgres_pool_opts(move |options| {
            let coming = coming.clone();
            options.after_release(move |connection, _| {
                let doubt = coming.clone();
                Box::pin(async move { doubt.admits(connection).await })
            })
        })
        .map_sqlx_postgres_before_acquire(move |connection, _| {
            let doubt = going.clone();
            Box::pin(async move { doubt.admits(connection).await })
        });
    let mut connection = Database::connect(options).await.map_err(away)?;
    let statements = Arc::clone(statements);
    connection.set_metric_callback(move |_| {
        statements.fetch_add(1, Ordering::Relaxed);
    });
    Ok(connection)
}

/// Asks a PostgreSQL server for one connection. A pool takes a refused connection for a server that is about to start,
/// asks again until its time is over, and then knows nothing but that.
async fn greet(url: &str) -> Result<()> {
    if url.starts_with("sqlite:") {
        return Ok(());
    }
    // Errors of the parser may repeat the URL, and with it a password.
    let malformed = || Error::invalid("database.url", "CONFIG_INVALID", "it is not a URL of a PostgreSQL database");
    let options = Url::parse(url).ok().and_then(|_| PgConnectOptions::from_str(url).ok()).ok_or_else(malformed)?;
    match tokio::time::timeout(GREETING, options.connect()).await {
        Ok(Ok(connection)) => {
            // Whether it can still say goodbye makes no difference.
            let _ = connection.close().await;
            Ok(())
        }
        // It is starting, or has no place just now: the pool waits for it.
        Ok(Err(SqlxError::Database(refusal))) if refusal.is_transient_in_connect_phase() => Ok(()),
        Ok(Err(error)) => Err(away(error)),
        Err(_) => Err(away(format!("no answer within {} s", GREETING.as_secs()))),
    }
}

/// The causes of these errors only repeat what they say.
fn away(cause: impl std::fmt::Display) -> Error {
    Error::Unavailable { service: "database", source: anyhow::anyhow!("{cause}") }
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

/// Makes the folder of a SQLite file where it is missing.
pub(super) fn make_folder(url: &str) -> Result<()> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or(path);
    match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|error| away(format!("make the folder {}: {error}", folder.display()))),
        _ => Ok(()),
    }
}
