//! What a stretch of work took: time, and processor time on both sides.

use std::time::Duration;

use anyhow::{Result, anyhow};
use gateway::infra::db::Db;
use sea_orm::{
    DbBackend,
    sqlx::{Row as _, query},
};

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) elapsed: Duration,
    /// Processor time of this process.
    pub(crate) own: Duration,
    /// Processor time of the server's sessions, where they run on this machine; nothing for SQLite.
    pub(crate) server: Option<Duration>,
}

/// Measures a [`Cost`].
pub(crate) struct Meter<'a> {
    db: &'a Db,
    own: Duration,
    server: Option<Duration>,
}

impl<'a> Meter<'a> {
    pub(crate) async fn start(db: &'a Db) -> Result<Self> {
        Ok(Self { db, server: server_time(db).await?, own: processor_time("self")? })
    }

    pub(crate) async fn stop(self, elapsed: Duration) -> Result<Cost> {
        let own = processor_time("self")?.saturating_sub(self.own);
        let server = server_time(self.db).await?.zip(self.server).map(|(after, before)| after.saturating_sub(before));
        Ok(Cost { elapsed, own, server })
    }
}

/// Processor time of the database's sessions, ended ones left out. The server may run elsewhere: then nobody knows.
async fn server_time(db: &Db) -> Result<Option<Duration>> {
    if db.backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
    let mut sum = Duration::ZERO;
    for row in query(sql).fetch_all(db.pool().get_postgres_connection_pool()).await? {
        let pid: i32 = row.try_get(0)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if !name.starts_with("postgres") {
            return Ok(None);
        }
        sum += processor_time(&pid.to_string())?;
    }
    Ok(Some(sum))
}

/// The PostgreSQL server, and those of its settings that the figures depend on most.
pub(crate) async fn server(db: &Db) -> Result<String> {
    let sql =
        "SELECT format('PostgreSQL %s', current_setting('server_version')) || string_agg(format(', %s = %s', name,
        current_setting(name)), '' ORDER BY name) FROM pg_settings
        WHERE name IN ('autovacuum', 'fsync', 'max_wal_size', 'shared_buffers', 'synchronous_commit')";
    Ok(query(sql).fetch_one(db.pool().get_postgres_connection_pool()).await?.try_get(0)?)
}

/// Processor time of a process, all its threads together, as Linux tells it: in hundredths of a second.
pub(crate) fn processor_time(pid: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may hold anything. Behind it, `utime` and `stime` are fields 12 and 13.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow!("/proc tells nothing of {pid}"))?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
