//! The store without a server: tables of the database for what has to outlive the process or be shared with others, memory
//! for the rest. Expiry goes by the clock of the process that looks, as leases of the embedded queue do.

use chrono::{DateTime, Duration as Span, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::rate::{Limit, Rate, Windows};
use crate::{
    error::Result,
    infra::{clock::Clock, db::Db},
};

/// How many values one call of [`Embedded::sweep`] deletes, so that writers do not wait long for it.
const SWEEP: i64 = 2_000;

#[derive(Debug)]
pub(super) struct Embedded {
    db: Db,
    clock: Clock,
    windows: Windows,
}

impl Embedded {
    pub(super) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, windows: Windows::default() }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM kv_entry WHERE key = $1 AND expires_at > $2";
        let found = one(self.db.read(), sql, [key.into(), self.clock.now().into()]).await?;
        Ok(found.map(|row| row.try_get("", "value")).transpose()?)
    }

    pub(super) async fn set(&self, key: &str, value: &[u8], ttl: Span) -> Result<()> {
        let sql = "INSERT INTO kv_entry (key, value, expires_at) VALUES ($1, $2, $3)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
        self.write(sql, [key.into(), value.into(), (self.clock.now() + ttl).into()]).await.map(drop)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.take(key).await?.is_some())
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        // Looking first spares a writing transaction where there is nothing.
        if self.get(key).await?.is_none() {
            return Ok(None);
        }
        let sql = "DELETE FROM kv_entry WHERE key = $1 AND expires_at > $2 RETURNING value";
        let now = self.clock.now();
        let taken = self.db.transact(|tx| async move { one(&*tx, sql, [key.into(), now.into()]).await }).await?;
        Ok(taken.map(|row| row.try_get("", "value")).transpose()?)
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Span,
    ) -> Result<bool> {
        let now = self.clock.now();
        let ends = now + ttl;
        let changed = if let Some(expected) = expected {
            let sql = "UPDATE kv_entry SET value = $3, expires_at = $4
                WHERE key = $1 AND value = $5 AND expires_at > $2";
            self.write(sql, [key.into(), now.into(), value.into(), ends.into(), expected.into()]).await?
        } else {
            let sql = "INSERT INTO kv_entry (key, value, expires_at) VALUES ($1, $3, $4)
                ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
                WHERE kv_entry.expires_at <= $2";
            self.write(sql, [key.into(), now.into(), value.into(), ends.into()]).await?
        };
        Ok(changed > 0)
    }

    /// Takes a lock; returns the fence.
    pub(super) async fn lock(&self, key: &str, owner: &str, ttl: Span) -> Result<Option<u64>> {
        // Who waits for a lock asks again and again; that should cost no writing transaction.
        let now = self.clock.now();
        let sql = "SELECT fence FROM kv_lock WHERE key = $1 AND expires_at > $2";
        if one(self.db.read(), sql, [key.into(), now.into()]).await?.is_some() {
            return Ok(None);
        }
        let fence = self
            .db
            .transact(|tx| async move {
                let fence = next_fence(&*tx, now).await?;
                let sql = "INSERT INTO kv_lock (key, owner, fence, expires_at) VALUES ($1, $2, $3, $4)
                    ON CONFLICT (key) DO UPDATE
                    SET owner = excluded.owner, fence = excluded.fence, expires_at = excluded.expires_at
                    WHERE kv_lock.expires_at <= $5";
                let values = [key.into(), owner.into(), fence.into(), (now + ttl).into(), now.into()];
                Ok((change(&*tx, sql, values).await? > 0).then_some(fence))
            })
            .await?;
        Ok(fence.map(i64::unsigned_abs))
    }

    pub(super) async fn renew(&self, key: &str, owner: &str, ttl: Span) -> Result<bool> {
        let now = self.clock.now();
        let sql = "UPDATE kv_lock SET expires_at = $4 WHERE key = $1 AND owner = $2 AND expires_at > $3";
        let changed = self.write(sql, [key.into(), owner.into(), now.into(), (now + ttl).into()]).await?;
        Ok(changed > 0)
    }

    pub(super) async fn release(&self, key: &str, owner: &str) -> Result<bool> {
        let sql = "DELETE FROM kv_lock WHERE key = $1 AND owner = $2 AND expires_at > $3";
        Ok(self.write(sql, [key.into(), owner.into(), self.clock.now().into()]).await? > 0)
    }

    pub(super) fn rate(&self, key: &str, limit: Limit, cost: u32) -> Rate {
        self.windows.ask(key, self.clock.now().timestamp_micros(), limit, cost)
    }

    /// Deletes what has expired; returns how much, and nought when there is no more.
    pub(super) async fn sweep(&self) -> Result<u64> {
        let now = self.clock.now();
        let expired = "SELECT 1 AS found FROM kv_entry WHERE expires_at <= $1
            UNION ALL SELECT 1 AS found FROM kv_lock WHERE expires_at <= $1 LIMIT 1";
        if one(self.db.read(), expired, [now.into()]).await?.is_none() {
            return Ok(0);
        }
        let entries = "DELETE FROM kv_entry WHERE key IN
            (SELECT key FROM kv_entry WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) AND expires_at <= $1";
        let locks = "DELETE FROM kv_lock WHERE expires_at <= $1";
        self.db
            .transact(|tx| async move {
                let swept = change(&*tx, entries, [now.into(), SWEEP.into()]).await?;
                Ok(swept + change(&*tx, locks, [now.into()]).await?)
            })
            .await
    }

    async fn write<const N: usize>(&self, sql: &'static str, values: [Value; N]) -> Result<u64> {
        let values = &values;
        self.db.transact(|tx| async move { change(&*tx, sql, values.clone()).await }).await
    }
}

/// The next number for a holding: the time, so that it grows also past what another store has handed out, or one more than
/// the last where the clock has not moved on. Its row is locked until the commit, so holdings become visible in their order.
async fn next_fence(tx: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<i64> {
    let sql = "INSERT INTO kv_fence (key, fence) VALUES ('*', $1)
        ON CONFLICT (key) DO UPDATE
        SET fence = CASE WHEN kv_fence.fence >= excluded.fence THEN kv_fence.fence + 1 ELSE excluded.fence END
        RETURNING fence";
    let row = one(tx, sql, [now.timestamp_micros().into()]).await?;
    let row = row.ok_or_else(|| crate::error::Error::bug(anyhow::anyhow!("an upsert returned nothing")))?;
    Ok(row.try_get("", "fence")?)
}

async fn one<const N: usize>(db: &impl ConnectionTrait, sql: &str, values: [Value; N]) -> Result<Option<QueryResult>> {
    Ok(db.query_one_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?)
}

async fn change<const N: usize>(tx: &impl ConnectionTrait, sql: &str, values: [Value; N]) -> Result<u64> {
    Ok(tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?.rows_affected())
}
