//! The embedded queue: a table of the database. A lease that ends is what gives back the messages of a dead consumer.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entities::queue_message as message;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
    sea_query::Expr,
};
use uuid::Uuid;

use super::{BYTES, Delivery, Depth, Message, Receipt, Settlement, Topic};
use crate::{
    error::Result,
    infra::{
        clock::Clock,
        db::{Db, bind_list, lock, pieces},
    },
};

/// One consumer of the table.
#[derive(Clone, Debug)]
pub(super) struct Embedded {
    db: Db,
    clock: Clock,
    topic: Topic,
    owner: Arc<str>,
}

impl Embedded {
    pub(super) fn new(db: Db, clock: Clock, topic: Topic) -> Self {
        Self { db, clock, topic, owner: Uuid::now_v7().to_string().into() }
    }

    pub(super) async fn publish(&self, messages: &[Message], cause: Option<&str>) -> Result<()> {
        let now = self.clock.now();
        self.db.transact(|tx| async move { insert(&*tx, self.topic, messages, cause, now).await }).await
    }

    pub(super) async fn receive(&self, limit: u64) -> Result<Vec<Delivery>> {
        let now = self.clock.now();
        if !is_any_due(self.db.read(), self.topic, now).await? {
            return Ok(Vec::new());
        }
        self.db.transact(|tx| async move { lease(&*tx, self.topic, &self.owner, now, limit).await }).await
    }

    pub(super) async fn settle(&self, settlements: &[(Delivery, Settlement)]) -> Result<()> {
        let now = self.clock.now();
        self.db.transact(|tx| async move { settle(&*tx, &self.owner, now, settlements).await }).await
    }

    pub(super) async fn depth(&self) -> Result<Depth> {
        depth(self.db.read(), self.topic, self.clock.now()).await
    }
}

async fn insert(
    tx: &impl ConnectionTrait,
    topic: Topic,
    messages: &[Message],
    cause: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    for chunk in pieces(messages) {
        let rows = chunk.iter().map(|message| message::ActiveModel {
            id: NotSet,
            topic: Set(topic.as_str().to_owned()),
            partition_key: Set(message.key.clone()),
            body: Set(message.body.clone()),
            attempts: Set(0),
            available_at: Set(now),
            lease_owner: Set(None),
            leased_until: Set(None),
            enqueued_at: Set(now),
            cause: Set(cause.map(str::to_owned)),
        });
        message::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// A cheap look before a transaction is opened.
async fn is_any_due(db: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>) -> Result<bool> {
    let due = Condition::all()
        .add(message::Column::Topic.eq(topic.as_str()))
        .add(message::Column::AvailableAt.lte(now))
        .add(message::Column::LeasedUntil.is_null().or(message::Column::LeasedUntil.lt(now)));
    let found = message::Entity::find()
        .select_only()
        .column(message::Column::Id)
        .filter(due)
        .limit(1)
        .into_tuple::<i64>()
        .one(db)
        .await?;
    Ok(found.is_some())
}

async fn lease(
    tx: &impl ConnectionTrait,
    topic: Topic,
    owner: &str,
    now: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<Delivery>> {
    // Two consumers must not look at the same time: each would miss what the other is about to take, and hand out a
    // later message of the same key.
    lock(tx, &["queue"]).await?;
    // A message waits while an earlier one of its key is being worked on or waits for its retry; where each takes long,
    // while there is an earlier one at all.
    let in_the_way =
        if topic.has_series() { "AND (earlier.leased_until >= $2 OR earlier.available_at > $2)" } else { "" };
    let sql = format!(
        "SELECT m.id, length(m.body) AS bytes FROM queue_message AS m
        WHERE m.topic = $1 AND m.available_at <= $2 AND (m.leased_until IS NULL OR m.leased_until < $2)
          AND NOT EXISTS (
            SELECT 1 FROM queue_message AS earlier
            WHERE earlier.topic = m.topic AND earlier.partition_key = m.partition_key AND earlier.id < m.id {in_the_way})
        ORDER BY m.id LIMIT $3"
    );
    let backend = tx.get_database_backend();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = [topic.as_str().into(), now.into(), limit.into()];
    let mut bytes = 0;
    let most = i64::try_from(BYTES).unwrap_or(i64::MAX);
    let mut chosen = Vec::new();
    for row in tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        let length: i64 = row
            .try_get::<Option<i64>>("", "bytes")
            .or_else(|_| row.try_get::<Option<i32>>("", "bytes").map(|length| length.map(i64::from)))?
            .unwrap_or_default();
        bytes += length;
        if bytes > most && !chosen.is_empty() {
            break;
        }
        chosen.push(row.try_get::<i64>("", "id")?);
    }
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let (list, chosen) = bind_list(backend, &chosen);
    let sql = format!(
        "UPDATE queue_message SET lease_owner = $2, leased_until = $3 WHERE id {list}
        RETURNING id, partition_key, body, attempts, cause"
    );
    let values = [chosen, owner.into(), (now + topic.lease()).into()];
    let rows = tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    let mut deliveries = rows
        .iter()
        .map(|row| {
            Ok(Delivery {
                receipt: Receipt::Row(row.try_get("", "id")?),
                key: row.try_get("", "partition_key")?,
                body: row.try_get("", "body")?,
                attempts: row.try_get::<i32>("", "attempts")?.unsigned_abs(),
                cause: row.try_get("", "cause")?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    deliveries.sort_unstable_by_key(row_of);
    Ok(deliveries)
}

/// None for a delivery of another queue.
fn row_of(delivery: &Delivery) -> Option<i64> {
    if let Receipt::Row(id) = delivery.receipt { Some(id) } else { None }
}

async fn settle(
    tx: &impl ConnectionTrait,
    owner: &str,
    now: DateTime<Utc>,
    settlements: &[(Delivery, Settlement)],
) -> Result<()> {
    let of = |wanted: fn(&Settlement) -> bool| {
        settlements.iter().filter(|(_, s)| wanted(s)).filter_map(|(delivery, _)| row_of(delivery)).collect::<Vec<i64>>()
    };
    let mine = || message::Column::LeaseOwner.eq(owner);
    let done = of(|s| matches!(s, Settlement::Ack));
    for chunk in pieces(&done) {
        // What is done is done, whoever holds it by now.
        message::Entity::delete_many().filter(message::Column::Id.is_in(chunk.iter().copied())).exec(tx).await?;
    }
    let released = of(|s| matches!(s, Settlement::Release));
    for chunk in pieces(&released) {
        message::Entity::update_many()
            .col_expr(message::Column::LeasedUntil, Expr::value(Option::<DateTime<Utc>>::None))
            .filter(message::Column::Id.is_in(chunk.iter().copied()))
            .filter(mine())
            .exec(tx)
            .await?;
    }
    for (delivery, settlement) in settlements {
        let (Settlement::Retry(pause), Some(id)) = (settlement, row_of(delivery)) else { continue };
        message::Entity::update_many()
            .col_expr(message::Column::LeasedUntil, Expr::value(Option::<DateTime<Utc>>::None))
            .col_expr(message::Column::AvailableAt, Expr::value(now + *pause))
            .col_expr(message::Column::Attempts, Expr::col(message::Column::Attempts).add(1))
            .filter(message::Column::Id.eq(id))
            .filter(mine())
            .exec(tx)
            .await?;
    }
    Ok(())
}

async fn depth(db: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>) -> Result<Depth> {
    let count = message::Entity::find()
        .select_only()
        .column_as(message::Column::Id.count(), "count")
        .filter(message::Column::Topic.eq(topic.as_str()))
        .into_tuple::<i64>()
        .one(db)
        .await?;
    let oldest = message::Entity::find()
        .filter(message::Column::Topic.eq(topic.as_str()))
        .order_by_asc(message::Column::Id)
        .one(db)
        .await?;
    Ok(Depth {
        messages: count.unwrap_or_default().unsigned_abs(),
        oldest: Some(oldest.and_then(|m| (now - m.enqueued_at).to_std().ok()).unwrap_or_default()),
        dead: 0,
    })
}
