//! Taking dead letters out of the table. One that is taken has a lease like any other message, after which it comes again.

use chrono::{DateTime, Utc};
use entities::queue_message as message;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement,
    sea_query::Expr,
};

use super::{DEAD, Embedded, fitting};
use crate::{
    error::Result,
    infra::{
        db::{bind_list, lock, pieces},
        queue::{DeadLetter, DeadLetters, Held, Topic},
    },
};

/// Letters in hand.
#[derive(Debug)]
pub(in crate::infra::queue) struct Exhumed {
    table: Embedded,
    ids: Vec<i64>,
}

impl Embedded {
    pub(in crate::infra::queue) async fn dead_letters(&self, limit: usize) -> Result<DeadLetters> {
        let now = self.clock.now();
        if count(self.db.read(), self.topic, now).await? == 0 {
            return Ok(DeadLetters::default());
        }
        let taken = self.db.transact(|tx| async move { take(&*tx, self.topic, &self.owner, now, limit).await }).await?;
        let (ids, letters) = taken.into_iter().map(|(id, body)| (id, DeadLetter { body, is_ours: true })).unzip();
        Ok(DeadLetters { letters, held: Some(Held::Table(Box::new(Exhumed { table: self.clone(), ids }))) })
    }
}

impl Exhumed {
    /// Deletes all that nobody else has taken meanwhile.
    pub(in crate::infra::queue) async fn forget(self) -> Result<()> {
        let Self { table, ids } = &self;
        table
            .db
            .transact(|tx| async move {
                for chunk in pieces(ids) {
                    message::Entity::delete_many()
                        .filter(message::Column::Id.is_in(chunk.iter().copied()))
                        .filter(message::Column::LeaseOwner.eq(&*table.owner))
                        .exec(&*tx)
                        .await?;
                }
                Ok(())
            })
            .await
    }
}

/// Those that are dead and that nobody has taken.
fn dead(topic: Topic, now: DateTime<Utc>) -> Select<message::Entity> {
    message::Entity::find()
        .filter(message::Column::Topic.eq(topic.as_str()))
        // As it stands in the index, which holds those only; a bound number would not be recognised.
        .filter(Expr::cust("losses > 0"))
        .filter(message::Column::Losses.gte(DEAD))
        .filter(message::Column::LeasedUntil.lt(now))
}

/// How many there are.
pub(super) async fn count(db: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>) -> Result<u64> {
    let counted = dead(topic, now).select_only().column_as(message::Column::Id.count(), "count");
    Ok(counted.into_tuple::<i64>().one(db).await?.unwrap_or_default().unsigned_abs())
}

async fn take(
    tx: &impl ConnectionTrait,
    topic: Topic,
    owner: &str,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<(i64, String)>> {
    lock(tx, &["queue"]).await?;
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let found = dead(topic, now)
        .select_only()
        .column(message::Column::Id)
        .column_as(Expr::cust("length(body)"), "bytes")
        .order_by_asc(message::Column::Id)
        .limit(limit);
    let backend = tx.get_database_backend();
    let chosen = fitting(&tx.query_all(found.as_query()).await?)?;
    let (list, chosen) = bind_list(backend, &chosen);
    let sql =
        format!("UPDATE queue_message SET lease_owner = $2, leased_until = $3 WHERE id {list} RETURNING id, body");
    let values = [chosen, owner.into(), (now + topic.lease()).into()];
    let rows = tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    let letters = rows.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "body")?)));
    let mut letters = letters.collect::<Result<Vec<(i64, String)>>>()?;
    letters.sort_unstable_by_key(|(id, _)| *id);
    Ok(letters)
}
