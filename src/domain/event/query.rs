//! Finding events. Store functions: each is one look at the database, two where a list reaches events without a start.

use std::{collections::HashMap, sync::Arc};

use entities::{
    event,
    sets::{EventStatus, EventVisibility, SourceType},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect, Select,
    sea_query::{Expr, ExprTrait},
};

use super::filter::Filter;
use crate::{
    domain::{
        page::{self, Group, KeyKind, Order, Page, Position, Slice},
        record,
        source::{
            Kind,
            web::{self, Shelf},
        },
        tenant::Tenant,
    },
    error::Result,
    infra::db::among,
};

/// What names one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Id of the row.
    Id(i64),
    /// Slug.
    Slug(String),
    /// AT-URI of the record.
    Uri(String),
    /// Identifier at the origin; for records of the network that is the AT-URI.
    Source(SourceType, String),
}

/// What events are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortField {
    /// Start; events without one come last in both directions.
    StartsAt,
    /// Creation.
    CreatedAt,
    /// Last change.
    UpdatedAt,
    /// Answers `confirmed`.
    AttendeeCount,
}

/// How events are sorted; ties are broken by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub field: SortField,
    /// Largest first.
    pub descending: bool,
}

impl Default for Sort {
    /// Soonest first.
    fn default() -> Self {
        Self { field: SortField::StartsAt, descending: false }
    }
}

/// Events that lists may show.
pub fn listed(tenant: Tenant) -> Select<event::Entity> {
    visible(tenant).filter(event::Column::Visibility.into_expr().eq(constant(EventVisibility::Public.as_str())))
}

/// Events that may be shown to whoever knows a key.
pub fn reachable(tenant: Tenant) -> Select<event::Entity> {
    visible(tenant).filter(event::Column::Visibility.ne(EventVisibility::Private))
}

fn visible(tenant: Tenant) -> Select<event::Entity> {
    tenant
        .events()
        // Spelt like the condition of the partial indexes: with a bound value neither planner would recognise it.
        .filter(event::Column::IsHidden.into_expr().not())
        .filter(event::Column::Status.into_expr().ne(constant(EventStatus::Draft.as_str())))
}

fn constant(text: &str) -> Expr {
    Expr::Constant(text.into())
}

/// The reachable event that a key names.
pub async fn find(db: &impl ConnectionTrait, tenant: Tenant, key: &Key) -> Result<Option<event::Model>> {
    let condition = match key {
        // A program's own identifier names a record, and several records may tell of one event.
        Key::Source(source, id) if web::SOURCES.contains(source) => {
            let shelf = Shelf { source: *source, tenant: tenant.id(), kind: Kind::Event };
            let uri = shelf.uri(id);
            let told = record::events_of(db, tenant, vec![uri.clone()]).await?.remove(&uri);
            event::Column::RecordUri.eq(told.unwrap_or(uri))
        }
        Key::Id(id) => event::Column::Id.eq(*id),
        Key::Slug(slug) => event::Column::Slug.eq(slug),
        Key::Uri(uri) => event::Column::RecordUri.eq(uri),
        Key::Source(source, uri) => event::Column::RecordUri.eq(uri).and(event::Column::SourceType.eq(*source)),
    };
    Ok(reachable(tenant).filter(condition).one(db).await?)
}

/// Reachable events by id.
pub async fn by_ids(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    ids: Vec<i64>,
) -> Result<HashMap<i64, Arc<event::Model>>> {
    let condition = among(db.get_database_backend(), event::Column::Id, ids);
    let rows = reachable(tenant).filter(condition).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, Arc::new(row))).collect())
}

/// A page of the listed events.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    filter: &Filter,
    sort: Sort,
    slice: &Slice,
) -> Result<Page<event::Model>> {
    let mut order = order(sort);
    if filter.starts_at.is_some() {
        // The filter leaves none without a start, so nobody needs to look for them.
        order.nullable = false;
    }
    order.page(db, filtered(db, tenant, filter)?, slice).await
}

/// How many listed events there are: exact up to [`page::MAX_TOTAL`], one more for all larger numbers.
pub async fn count(db: &impl ConnectionTrait, tenant: Tenant, filter: &Filter) -> Result<u64> {
    page::count(db, filtered(db, tenant, filter)?).await
}

fn filtered(db: &impl ConnectionTrait, tenant: Tenant, filter: &Filter) -> Result<Select<event::Entity>> {
    Ok(listed(tenant).filter(filter.condition(db.get_database_backend(), tenant)?))
}

/// The same page of the listed events of each of several organisers, soonest first, in one statement.
pub async fn of_organizers(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    users: Vec<i64>,
    slice: &Slice,
) -> Result<HashMap<i64, Page<event::Model>>> {
    let select = listed(tenant).filter(among(db.get_database_backend(), event::Column::UserId, users));
    let group = Group::<event::Entity> { column: event::Column::UserId, of: |row| row.user_id };
    order(Sort::default()).page_of_each(db, select, &group, slice).await
}

/// How many listed events each of several organisers has; those without any have no entry.
pub async fn count_of_organizers(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    users: Vec<i64>,
) -> Result<HashMap<i64, u64>> {
    let rows: Vec<(i64, i64)> = listed(tenant)
        .filter(among(db.get_database_backend(), event::Column::UserId, users))
        .select_only()
        .column(event::Column::UserId)
        .column_as(Expr::cust("COUNT(*)"), "total")
        .group_by(event::Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|(user, total)| (user, u64::try_from(total).unwrap_or_default())).collect())
}

/// How a list of events is cut into pages.
pub(crate) fn order(sort: Sort) -> Order<event::Entity> {
    use event::Column::{ConfirmedCount, CreatedAt, Id, StartsAt, UpdatedAt};
    let (tag, key, kind, position): (_, _, _, fn(&event::Model) -> Position) = match sort.field {
        SortField::StartsAt => (b's', StartsAt, KeyKind::Instant, |row| Position {
            key: row.starts_at.map(|at| at.timestamp_micros()),
            id: row.id,
        }),
        SortField::CreatedAt => (b'c', CreatedAt, KeyKind::Instant, |row| Position {
            key: Some(row.created_at.timestamp_micros()),
            id: row.id,
        }),
        SortField::UpdatedAt => (b'u', UpdatedAt, KeyKind::Instant, |row| Position {
            key: Some(row.updated_at.timestamp_micros()),
            id: row.id,
        }),
        SortField::AttendeeCount => (b'a', ConfirmedCount, KeyKind::Number, |row| Position {
            key: Some(row.confirmed_count.into()),
            id: row.id,
        }),
    };
    let nullable = sort.field == SortField::StartsAt;
    Order { tag, key, kind, nullable, descending: sort.descending, id: Id, position }
}
