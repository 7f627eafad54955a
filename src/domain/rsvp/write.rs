//! Writing answers: what the persist stage may do to the table, as whole sets of rows.

use chrono::{DateTime, Utc};
use entities::event_attendee as attendee;
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
    Statement, sea_query::Expr,
};

use crate::{
    domain::tenant::Tenant,
    error::Result,
    infra::db::{among, bind_list, bind_pairs, insert, replace},
};

/// The answers of these (event, person), where there are any.
pub async fn of(db: &impl ConnectionTrait, tenant: Tenant, pairs: Vec<(i64, i64)>) -> Result<Vec<attendee::Model>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let backend = db.get_database_backend();
    let (events, people): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let (wanted, mut values) = bind_pairs(backend, events, people);
    values.push(tenant.id().into());
    let sql = format!(
        "SELECT a.* FROM {wanted} CROSS JOIN event_attendee AS a
        WHERE a.event_id = wanted.one AND a.user_id = wanted.other AND a.tenant_id = ${}",
        values.len()
    );
    Ok(attendee::Entity::find().from_raw_sql(Statement::from_sql_and_values(backend, sql, values)).all(db).await?)
}

/// The events that these people answered.
pub async fn answered_by(db: &impl ConnectionTrait, tenant: Tenant, users: Vec<i64>) -> Result<Vec<i64>> {
    Ok(tenant
        .attendees()
        .select_only()
        .column(attendee::Column::EventId)
        .distinct()
        .filter(among(db.get_database_backend(), attendee::Column::UserId, users))
        .into_tuple()
        .all(db)
        .await?)
}

/// Writes answers; one that a person had given to the event before is replaced.
pub async fn upsert(tx: &impl ConnectionTrait, rows: Vec<attendee::Model>) -> Result<()> {
    let values = |row: attendee::Model| row.into_active_model().reset_all();
    let without_id = |row| attendee::ActiveModel { id: NotSet, ..values(row) };
    let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.id == 0);
    insert(tx, new.into_iter().map(without_id).collect(), None).await?;
    let columns = [
        attendee::Column::Status,
        attendee::Column::SourceType,
        attendee::Column::RecordUri,
        attendee::Column::RecordCid,
        attendee::Column::RecordRev,
        attendee::Column::EventCid,
        attendee::Column::IsHidden,
        attendee::Column::CreatedAt,
        attendee::Column::UpdatedAt,
    ];
    replace(tx, known.into_iter().map(values).collect(), &[attendee::Column::Id], &columns).await
}

/// Removes answers.
pub async fn delete(tx: &impl ConnectionTrait, ids: Vec<i64>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    attendee::Entity::delete_many()
        .filter(among(tx.get_database_backend(), attendee::Column::Id, ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Hides or shows everything that these people answered.
pub async fn hide(tx: &impl ConnectionTrait, users: Vec<i64>, is_hidden: bool, now: DateTime<Utc>) -> Result<()> {
    attendee::Entity::update_many()
        .col_expr(attendee::Column::IsHidden, Expr::value(is_hidden))
        .col_expr(attendee::Column::UpdatedAt, Expr::value(now))
        .filter(among(tx.get_database_backend(), attendee::Column::UserId, users))
        .exec(tx)
        .await?;
    Ok(())
}

/// Counts the shown answers of these events again.
pub async fn recount(tx: &impl ConnectionTrait, events: &[i64]) -> Result<()> {
    let backend = tx.get_database_backend();
    let (list, value) = bind_list(backend, events);
    let sql = format!(
        "UPDATE event SET confirmed_count = n.confirmed, maybe_count = n.maybe, cancelled_count = n.cancelled
        FROM (
            SELECT e.id,
                CAST(COUNT(CASE WHEN a.status = 'confirmed' THEN 1 END) AS INTEGER) AS confirmed,
                CAST(COUNT(CASE WHEN a.status = 'maybe' THEN 1 END) AS INTEGER) AS maybe,
                CAST(COUNT(CASE WHEN a.status = 'cancelled' THEN 1 END) AS INTEGER) AS cancelled
            FROM event AS e LEFT JOIN event_attendee AS a ON a.event_id = e.id AND NOT a.is_hidden
            WHERE e.id {list} GROUP BY e.id) AS n
        WHERE event.id = n.id AND (event.confirmed_count <> n.confirmed
            OR event.maybe_count <> n.maybe OR event.cancelled_count <> n.cancelled)"
    );
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, [value])).await?;
    Ok(())
}
