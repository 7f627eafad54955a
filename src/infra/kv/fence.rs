//! What keeps a holder that does not know yet that its lock has passed on from writing over its successor.

use sea_orm::{ConnectionTrait, Statement};

use crate::error::{Error, Result};

/// The number of one holding of a lock; a later holding has a higher one, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub(super) key: String,
    pub(super) number: u64,
}

impl Fence {
    /// The number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Lets a transaction go on that writes in the name of the lock, and refuses it once a later holder has written. Until
    /// the commit a later holder's own transaction waits here.
    ///
    /// Fails with `Unavailable { service: "lock" }`: the work is the other holder's now.
    pub async fn admit(&self, tx: &impl ConnectionTrait) -> Result<()> {
        let sql = "INSERT INTO kv_fence (key, fence) VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET fence = excluded.fence WHERE kv_fence.fence <= excluded.fence";
        let number = i64::try_from(self.number).unwrap_or(i64::MAX);
        let values = [self.key.as_str().into(), number.into()];
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        if tx.execute_raw(statement).await?.rows_affected() == 0 {
            let source = anyhow::anyhow!("another process has held it since");
            return Err(Error::Unavailable { service: "lock", source });
        }
        Ok(())
    }
}
