//! Bringing the tables up to date, beside programs of other versions.
//!
//! Migrations only add, and what one takes away nobody has used for a release. So a program works on the tables of the next
//! release, and starts on them: one of the old version may be started again at any time while the new one is rolled out.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tracing::warn;

use super::{Db, lock};
use crate::error::{Error, Result};

/// How the migrations that tables have seen differ from those that the program knows.
struct Difference {
    /// Known and not applied.
    missing: usize,
    /// Applied and not known.
    unknown: Vec<String>,
}

impl Db {
    /// Brings the schema up to date, as a whole or not at all. Any number of processes may call it at once: the lock, or
    /// SQLite's single writer, lets them look one after the other, and ends with the transaction even when one is killed.
    /// Tables of a newer program are left as they are.
    ///
    /// Errors: [`Error::Unavailable`] for tables that are newer in one respect and older in another.
    pub async fn migrate(&self) -> Result<()> {
        let tx = self.begin().await?;
        if self.backend() == DbBackend::Postgres {
            // Building an index may take its time, and so may waiting for whoever does.
            tx.execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
        }
        lock(&tx, &["migrate"]).await?;
        let Difference { missing, unknown } = compare(&tx).await?;
        if unknown.is_empty() {
            Migrator::up(&tx, None).await?;
            return Ok(tx.commit().await?);
        }
        tx.rollback().await?;
        if missing == 0 {
            warn!(?unknown, "the tables are those of a newer program; they are left as they are");
            return Ok(());
        }
        let source = anyhow::anyhow!(
            "its tables are those of another program: {missing} migrations are missing, and {} are not known",
            unknown.join(", ")
        );
        Err(Error::Unavailable { service: "database", source })
    }

    /// Succeeds when the schema is up to date, or newer; changes nothing.
    ///
    /// Errors: [`Error::Unavailable`] that says what to do.
    pub async fn check_tables(&self) -> Result<()> {
        let Difference { missing, unknown } = compare(self.pool()).await?;
        if missing == 0 {
            if !unknown.is_empty() {
                warn!(?unknown, "the tables are those of a newer program");
            }
            return Ok(());
        }
        let source = anyhow::anyhow!("{missing} migrations of its tables are missing; run `openmeet-gateway migrate`");
        Err(Error::Unavailable { service: "database", source })
    }
}

async fn compare(db: &impl ConnectionTrait) -> Result<Difference> {
    let backend = db.get_database_backend();
    let exists = match backend {
        DbBackend::Postgres => "SELECT CAST(1 AS bigint) AS one WHERE to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
    };
    let ask = |sql: &str| Statement::from_string(backend, sql);
    let mut applied = BTreeSet::new();
    if db.query_one_raw(ask(exists)).await?.is_some() {
        for row in db.query_all_raw(ask("SELECT version FROM seaql_migrations")).await? {
            applied.insert(row.try_get::<String>("", "version")?);
        }
    }
    let known = Migrator::migrations();
    // What is left in the end was not known.
    let missing = known.iter().filter(|step| !applied.remove(step.name())).count();
    Ok(Difference { missing, unknown: applied.into_iter().collect() })
}
