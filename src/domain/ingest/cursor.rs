//! How far each stream has been read: everything up to here is durable in the queue.

use chrono::{DateTime, Utc};
use entities::stream_cursor as cursor;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use crate::error::Result;

/// Where to resume a stream; `None` when it was never read.
pub async fn load(db: &impl ConnectionTrait, endpoint: &str) -> Result<Option<i64>> {
    Ok(cursor::Entity::find_by_id(endpoint).one(db).await?.map(|row| row.position))
}

/// Moves a stream's position. To be called when everything before it is in the queue.
pub async fn save(tx: &impl ConnectionTrait, endpoint: &str, position: i64, now: DateTime<Utc>) -> Result<()> {
    let row = cursor::ActiveModel { endpoint: Set(endpoint.to_owned()), position: Set(position), updated_at: Set(now) };
    let move_on = OnConflict::column(cursor::Column::Endpoint)
        .update_columns([cursor::Column::Position, cursor::Column::UpdatedAt])
        .to_owned();
    cursor::Entity::insert(row).on_conflict(move_on).exec_without_returning(tx).await?;
    Ok(())
}

/// When the position of any stream was last moved; `None` when none ever was. (The marks of backfills are no streams.)
pub async fn moved_at(db: &impl ConnectionTrait) -> Result<Option<DateTime<Utc>>> {
    Ok(cursor::Entity::find()
        .select_only()
        .column(cursor::Column::UpdatedAt)
        .filter(cursor::Column::Endpoint.not_like("backfill %"))
        .order_by_desc(cursor::Column::UpdatedAt)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?)
}
