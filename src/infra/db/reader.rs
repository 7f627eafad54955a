//! Reading, for people who wait for it.
//!
//! A pool whose server is away tries to connect for as long as its time limit lets it, and a server that stands still never
//! answers. So who waits longer than usual finds out whether the server is there at all (see `Probe::watch`); and when some
//! were told in a row that it is not, all are told no at once, but for one now and then who tries. This is not the circuit of
//! [`Db`](super::Db): a server that can be read but not written is read.

use std::{fmt, sync::Arc};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    prelude::async_trait::async_trait,
};

use super::{POLICY, probe::Probe, refusal::is_away};
use crate::infra::resilience::Breaker;

/// Connections for reading. Cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Inside>);

struct Inside {
    pool: DatabaseConnection,
    probe: Probe,
    breaker: Arc<Breaker>,
}

impl Reader {
    pub(super) fn new(pool: DatabaseConnection, probe: Probe) -> Self {
        Self(Arc::new(Inside { pool, probe, breaker: Arc::new(Breaker::new(POLICY)) }))
    }

    pub(super) fn pool(&self) -> &DatabaseConnection {
        &self.0.pool
    }

    async fn ask<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let backend = self.0.pool.get_database_backend();
        if backend != DbBackend::Postgres {
            return answer.await;
        }
        let pass = self.0.breaker.admit().map_err(|resting| DbErr::Conn(RuntimeErr::Internal(resting.to_string())))?;
        let outcome = self.0.probe.watch(backend, answer).await;
        match &outcome {
            Err(error) if is_away(error) => {
                self.0.probe.distrust();
                pass.fails();
            }
            _ => drop(pass.works()),
        }
        outcome
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.0.pool.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.ask(self.0.pool.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.ask(self.0.pool.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.ask(self.0.pool.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.ask(self.0.pool.query_all_raw(statement)).await
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
