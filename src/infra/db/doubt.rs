//! Whether connections can be trusted to answer.
//!
//! A server that vanished without a word leaves connections on which nobody answers. A pool to which such a one comes back
//! asks it whether it lives, for as long as the system keeps trying, a quarter of an hour: its place would be taken till
//! then, also when the server is long back. So after some trouble the pool does not wait for that answer as long as it likes.
//!
//! A server that was started again has cut all connections at once. The pool would find that out of one after the other, each
//! at the cost of somebody's statement: so after some trouble it asks before it hands one out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sea_orm::{
    SqlxError,
    sqlx::{Connection, PgConnection},
};
use tokio::time::{Instant, timeout};

use super::probe::ANSWER;

/// How long after the last trouble connections are looked at with distrust: those that were in use come back by then.
const LASTS: Duration = Duration::from_mins(2);

/// When there was trouble last. Cheap to clone; clones are the same doubt.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt(Arc<Mutex<Option<Instant>>>);

impl Doubt {
    /// Somebody was not answered, or was cut off.
    pub(super) fn rise(&self) {
        *self.last() = Some(Instant::now());
    }

    /// Whether to keep a connection that comes back to the pool, or is about to be used again.
    pub(super) async fn admits(&self, connection: &mut PgConnection) -> Result<bool, SqlxError> {
        let is_raised = self.last().is_some_and(|last| last.elapsed() < LASTS);
        if is_raised {
            // An error has the pool drop it without a farewell, which nobody would hear.
            timeout(ANSWER, connection.ping()).await.map_err(|_| SqlxError::WorkerCrashed)??;
        }
        Ok(true)
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
