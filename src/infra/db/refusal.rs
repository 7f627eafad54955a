//! What a database's error means: whether it is away, whether it passes by itself, or whether we made a mistake.

use sea_orm::{DbErr, RuntimeErr, SqlxError, sqlx::error::DatabaseError};

use crate::error::Error;

impl From<DbErr> for Error {
    /// A lost connection and what passes by itself mean that the database is away; everything else, such as a statement
    /// that it refuses, is a mistake of ours.
    fn from(error: DbErr) -> Self {
        if is_away(&error) {
            Self::Unavailable { service: "database", source: error.into() }
        } else {
            Self::Bug(error.into())
        }
    }
}

pub(super) fn is_away(error: &DbErr) -> bool {
    match error {
        // The latter is what we say ourselves of a server that gives no answer.
        DbErr::ConnectionAcquire(_) | DbErr::Conn(RuntimeErr::Internal(_)) => true,
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
    }
}

/// SQLSTATE classes of PostgreSQL, and result codes of SQLite, that pass by themselves.
fn is_transient(code: &str) -> bool {
    // 08 connection, 25P03 a transaction that stood still for too long, 40 rollback (serialisation, deadlock), 53 resources,
    // 55 a lock that did not come, 57P shutdown, 58 I/O. Not 57014: a statement that took too long takes as long the next time.
    let classes = ["08", "25P03", "40", "53", "55", "57P", "58"];
    let postgres = code.len() == 5 && classes.iter().any(|class| code.starts_with(class));
    // 5 busy, 6 locked, 10 I/O, 13 full, 14 cannot open; extended codes carry these in the low byte
    let sqlite = code.len() < 5 && code.parse::<u32>().is_ok_and(|c| [5, 6, 10, 13, 14].contains(&(c & 0xff)));
    postgres || sqlite
}

/// Deadlock and serialisation failure (40xxx) and a unique key that a neighbour took first (23505) pass when the
/// transaction looks again; so does a busy SQLite file.
pub(super) fn wants_retry(error: &Error) -> bool {
    let (Error::Unavailable { source, .. } | Error::Bug(source)) = error else { return false };
    let Some(refusal) = source.downcast_ref::<DbErr>().and_then(refusal) else { return false };
    let code = refusal.code().unwrap_or_default();
    refusal.is_unique_violation() || code.starts_with("40") || (code.len() < 5 && is_transient(&code))
}

/// Whether PostgreSQL has stopped a statement because it took longer than a statement may.
pub(super) fn is_overdue(error: &DbErr) -> bool {
    refusal(error).is_some_and(|refusal| refusal.code().is_some_and(|code| code == "57014"))
}

/// What the database itself said.
fn refusal(error: &DbErr) -> Option<&dyn DatabaseError> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return None };
    let RuntimeErr::SqlxError(cause) = cause else { return None };
    cause.as_database_error()
}
