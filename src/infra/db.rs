//! The database: one handle over SQLite and PostgreSQL, and the only place where a transaction begins.
//!
//! Reads go to [`Db::read`], which fails soon when the server is away; everything that writes goes through [`Db::transact`]. On SQLite there is one writing
//! connection (`BEGIN IMMEDIATE`, so that no upgrade of a lock can fail half-way) beside many readers; on PostgreSQL both
//! are one pool at READ COMMITTED, and what must not interleave takes [`lock()`]s.

mod connect;
mod doubt;
mod insert;
mod lock;
mod probe;
mod reader;
mod refusal;
mod rows;
mod tables;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::time::timeout;
use tracing::debug;

use self::{
    connect::{Purpose, make_folder, open},
    doubt::Doubt,
    lock::Room,
    probe::{ANSWER, Probe},
    refusal::wants_retry,
};
pub use self::{
    insert::{insert, insert_returning, replace},
    lock::{lock, lock_one_of},
    reader::Reader,
    rows::{among, bind_list, bind_pairs, pieces},
};
use crate::{
    error::{Error, Result},
    infra::resilience::{Circuit, Dependency, Policy},
};

/// A running transaction.
pub type Tx = Arc<DatabaseTransaction>;

/// How often a transaction is run again after a deadlock or a serialisation failure.
const TRIES: u32 = 6;

/// Page cache of SQLite's writer, in the unit of its pragma: 16 MB, which a batch fits in.
const WRITER_CACHE: &str = "-16000";
/// Page cache of each reader: 2 MB, since the pages that count are in the system's cache as well.
const READER_CACHE: &str = "-2000";

/// When transactions are refused at once instead of each waiting for its connection. It is short, since a look whether the
/// database is back costs little.
const POLICY: Policy = Policy { failures: 3, first: Duration::from_millis(250), longest: Duration::from_secs(2) };

/// How long SQLite waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(20);

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
    reader: Reader,
    writer: DatabaseConnection,
    probe: Probe,
    circuit: Circuit,
    statements: Arc<AtomicU64>,
    room: Arc<Room>,
}

impl Db {
    /// Connects. A SQLite file and its folder are made when they are missing.
    pub async fn connect(settings: &DbSettings) -> Result<Self> {
        let statements = Arc::new(AtomicU64::new(0));
        let sqlite = settings.url.starts_with("sqlite:");
        if sqlite {
            make_folder(&settings.url)?;
        }
        let readers = Purpose { size: settings.max_connections, cache: READER_CACHE, patience: PATIENCE };
        let writers = Purpose { size: if sqlite { 1 } else { readers.size }, cache: WRITER_CACHE, ..readers };
        let doubt = Doubt::default();
        let writer = open(settings, writers, &statements, &doubt).await?;
        let reader = if sqlite { open(settings, readers, &statements, &doubt).await? } else { writer.clone() };
        let probe = Probe::new(settings.clone(), doubt);
        let reader = Reader::new(reader, probe.clone());
        let asked = probe.clone();
        // The probe's own connection: those of the pool may all be dead, and each would be found so one by one.
        let circuit = Circuit::looking(Dependency::Database, POLICY, move || {
            let probe = asked.clone();
            Box::pin(async move { probe.ask().await })
        });
        Ok(Self { reader, writer, probe, circuit, statements, room: Arc::default() })
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// For reading. Several statements on it do not see one snapshot.
    pub fn read(&self) -> &Reader {
        &self.reader
    }

    /// The connections that [`Db::read`] uses, for who wants a snapshot and has the time to wait for it.
    pub fn pool(&self) -> &DatabaseConnection {
        self.reader.pool()
    }

    /// Runs `work` in one transaction, and again from the start when the database had to break it off in favour of
    /// another one. `work` may therefore run several times: it must do nothing that a rollback does not undo.
    ///
    /// While the database is away it fails at once, with `Unavailable`; so it does soon when the database goes away on the way.
    /// Whether it was committed then, nobody knows. What is not done after a minute fails as a mistake of ours, even if the
    /// database is there: it would take as long again, or its connection is gone without a word.
    ///
    /// The transaction is handed over as a shared handle instead of a reference, because a closure over a reference makes
    /// a future that the compiler cannot prove to be `Send`. It must not be kept.
    pub async fn transact<T, F>(&self, work: impl Fn(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let pass = self.circuit.admit()?;
        let outcome = self.insist(&work).await;
        self.circuit.judge(pass, &outcome);
        outcome
    }

    async fn insist<T, F>(&self, work: &impl Fn(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(work).await {
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
        // Boxed: what watches it would otherwise be as large once more.
        let outcome = self.probe.watch(self.backend(), Box::pin(work(Arc::clone(&tx)))).await;
        // Dropped while somebody keeps it, the transaction is rolled back.
        let tx =
            Arc::into_inner(tx).ok_or_else(|| Error::bug(anyhow::anyhow!("a transaction outlived its closure")))?;
        match outcome {
            Ok(value) => {
                self.probe.watch(self.backend(), tx.commit()).await?;
                Ok(value)
            }
            // Its connection may be gone, and nobody may answer there: the pool sees to it behind us.
            Err(error @ Error::Unavailable { .. }) => {
                self.probe.distrust();
                Err(error)
            }
            Err(error) => {
                // When the connection is gone the rollback has happened anyway; the first error is the one to tell.
                match timeout(ANSWER, tx.rollback()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(lost)) => debug!(error = %lost, "rollback failed"),
                    Err(_) => debug!("rollback was not confirmed"),
                }
                Err(error)
            }
        }
    }

    async fn begin(&self) -> Result<DatabaseTransaction> {
        let sqlite_transaction_mode = (self.backend() == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode, ..Default::default() };
        Ok(self.probe.watch(self.backend(), self.writer.begin_with_options(options)).await?)
    }

    /// Whether transactions are let through, for loops that wait until they are.
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Succeeds when the database can be read and written. Asks on a connection of its own, so that the answer does not
    /// wait for the others; one at a time, and without a time limit.
    pub async fn check(&self) -> Result<()> {
        self.probe.ask().await
    }

    /// Ends all connections, of every clone, after what is under way on them. The last one of a SQLite file takes its WAL
    /// along.
    pub async fn close(&self) {
        self.probe.close().await;
        for pool in [self.pool(), &self.writer] {
            // Whoever closes has no use for the connections any more, whatever they say.
            if let Err(error) = pool.close_by_ref().await {
                debug!(%error, "the database was not closed");
            }
        }
    }

    /// How many [`lock()`]s the server has room for, all transactions together: it fails when there are more. A transaction that
    /// takes many at once has to leave room for others.
    pub async fn lock_room(&self, tx: &impl ConnectionTrait) -> Result<usize> {
        self.room.size(tx).await
    }

    /// Statements sent since the start, for tests that bound them and for a metric.
    pub fn statement_count(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}
