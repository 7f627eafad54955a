//! The embedded queue: a table of the database. A lease that ends is what gives back the messages of a dead consumer.
//!
//! **Poison.** A lease that ends with nothing said about its message is counted with it: its consumer was lost. As in the
//! broker, a message lost more often than [`DELIVERY_LIMIT`] is a suspect, and handed out alone: the innocent that were leased
//! beside the guilty one are done then. One that is lost as often again is dead; `graveyard` hands it to the failure list.

mod graveyard;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entities::queue_message as message;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
    Statement,
    sea_query::Expr,
};
use tracing::warn;
use uuid::Uuid;

pub(super) use self::graveyard::Exhumed;
use super::{BYTES, DELIVERY_LIMIT, Delivery, Depth, Message, Receipt, Settlement, Topic};
use crate::{
    error::Result,
    infra::{
        clock::Clock,
        db::{Db, bind_list, lock, pieces},
    },
};

/// Losses after which one more makes a message a suspect. (The last loss is counted when the message is taken again.)
const SUSPECT: i32 = DELIVERY_LIMIT.cast_signed();
/// Losses after which one more makes it a dead letter.
const DEAD: i32 = 2 * SUSPECT + 1;

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
            losses: Set(0),
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
        .add(message::Column::LeasedUntil.is_null().or(message::Column::LeasedUntil.lt(now)))
        .add(living(now));
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
    let chosen = match suspect(tx, topic, now).await? {
        Some(id) => vec![id],
        None => next(tx, topic, now, limit).await?,
    };
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let backend = tx.get_database_backend();
    let (list, chosen) = bind_list(backend, &chosen);
    let sql = format!(
        "UPDATE queue_message SET lease_owner = $2, leased_until = $3,
          losses = losses + CASE WHEN leased_until IS NULL THEN 0 ELSE 1 END
        WHERE id {list}
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

/// What is handed out in its turn.
async fn next(tx: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>, limit: u64) -> Result<Vec<i64>> {
    // A message waits while an earlier one of its key is being worked on, but for none that waits for its retry, which may be
    // hours away; where each takes long, while there is an earlier one at all that is not dead.
    let in_the_way = if topic.has_series() {
        "AND earlier.leased_until >= $2".to_owned()
    } else {
        format!("AND (earlier.losses < {DEAD} OR earlier.leased_until IS NULL OR earlier.leased_until >= $2)")
    };
    let sql = format!(
        "SELECT m.id, length(m.body) AS bytes FROM queue_message AS m
        WHERE m.topic = $1 AND m.available_at <= $2 AND (m.leased_until IS NULL OR m.leased_until < $2)
          AND m.losses < {SUSPECT}
          AND NOT EXISTS (
            SELECT 1 FROM queue_message AS earlier
            WHERE earlier.topic = m.topic AND earlier.partition_key = m.partition_key AND earlier.id < m.id {in_the_way})
        ORDER BY m.id LIMIT $3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = [topic.as_str().into(), now.into(), limit.into()];
    let backend = tx.get_database_backend();
    fitting(&tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?)
}

/// A message that consumers seem to die of, unless one is out already. Those that were lost less often come first: they are
/// the innocent ones.
async fn suspect(tx: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>) -> Result<Option<i64>> {
    // That some have been lost stands here as it does in the index, which holds those only.
    let sql = format!(
        "SELECT m.id, m.partition_key, m.losses FROM queue_message AS m
        WHERE m.topic = $1 AND m.available_at <= $2 AND (m.leased_until IS NULL OR m.leased_until < $2)
          AND m.losses > 0 AND m.losses >= {SUSPECT} AND (m.losses < {DEAD} OR m.leased_until IS NULL)
          AND NOT EXISTS (
            SELECT 1 FROM queue_message AS other
            WHERE other.topic = m.topic AND other.losses > 0 AND other.losses >= {SUSPECT} AND other.leased_until >= $2)
          AND NOT EXISTS (
            SELECT 1 FROM queue_message AS other
            WHERE other.topic = m.topic AND other.partition_key = m.partition_key AND other.leased_until >= $2)
        ORDER BY m.losses, m.id LIMIT 1"
    );
    let values = [topic.as_str().into(), now.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let Some(row) = tx.query_one_raw(statement).await? else { return Ok(None) };
    let (key, losses): (String, i32) = (row.try_get("", "partition_key")?, row.try_get("", "losses")?);
    warn!(topic = topic.as_str(), key, losses, "a message whose consumers were lost is handed out alone");
    Ok(Some(row.try_get("", "id")?))
}

/// The ids of the first rows, as many as may be held in memory at once, and at least one.
fn fitting(rows: &[QueryResult]) -> Result<Vec<i64>> {
    let most = i64::try_from(BYTES).unwrap_or(i64::MAX);
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    for row in rows {
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
    Ok(chosen)
}

/// Whether a message is not dead, for one that is not leased or whose lease may have ended.
fn living(now: DateTime<Utc>) -> Condition {
    Condition::any()
        .add(message::Column::Losses.lt(DEAD))
        .add(message::Column::LeasedUntil.is_null())
        .add(message::Column::LeasedUntil.gte(now))
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
            // Its consumer survived it.
            .col_expr(message::Column::Losses, Expr::value(0))
            .filter(message::Column::Id.eq(id))
            .filter(mine())
            .exec(tx)
            .await?;
    }
    Ok(())
}

async fn depth(db: &impl ConnectionTrait, topic: Topic, now: DateTime<Utc>) -> Result<Depth> {
    let all = || message::Entity::find().filter(message::Column::Topic.eq(topic.as_str()));
    let count = all()
        .select_only()
        .column_as(message::Column::Id.count(), "count")
        .into_tuple::<i64>()
        .one(db)
        .await?
        .unwrap_or_default()
        .unsigned_abs();
    let dead = graveyard::count(db, topic, now).await?;
    let oldest = all().filter(living(now)).filter(message::Column::AvailableAt.lte(now));
    let oldest = oldest.order_by_asc(message::Column::Id).one(db).await?;
    Ok(Depth {
        messages: count.saturating_sub(dead),
        held: 0,
        oldest: Some(oldest.and_then(|m| (now - m.enqueued_at).to_std().ok()).unwrap_or_default()),
        dead,
    })
}
