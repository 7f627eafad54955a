//! Finding answers. Store functions: each is one statement.

use std::{collections::HashMap, sync::Arc};

use entities::{
    event, event_attendee,
    sets::{RsvpStatus, SourceType},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, QueryFilter, QuerySelect, QueryTrait, Select,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    domain::{
        account::{self, Actor},
        event as events,
        page::{self, Group, KeyKind, Order, Page, Position, Slice},
        range::Range,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db::among,
};

/// Most events or people that one condition may name.
pub const MAX_VALUES: usize = 100;

/// What names one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Id of the row.
    Id(i64),
    /// AT-URI of the record.
    Uri(String),
    /// The event, by id, and who answered.
    Attendance(i64, Actor),
}

/// Conditions on answers, all of which must hold. A list holds for any of its members, and for none when it is empty;
/// what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Ids of events; at most [`MAX_VALUES`].
    pub events: Option<Vec<i64>>,
    /// Who answered; at most [`MAX_VALUES`].
    pub attendees: Option<Vec<Actor>>,
    /// Ids of the accounts that answered.
    pub users: Option<Vec<i64>>,
    /// The answer.
    pub status: Option<Vec<RsvpStatus>>,
    /// Origins.
    pub source: Option<Vec<SourceType>>,
    /// When it changed.
    pub updated_at: Option<Range>,
}

fn visible(tenant: Tenant) -> Select<event_attendee::Entity> {
    // Spelt like the condition of the partial indexes: with a bound value neither planner would recognise it.
    tenant.attendees().filter(event_attendee::Column::IsHidden.into_expr().not())
}

/// `events` holds the event that was answered.
fn to_one_of(events: Select<event::Entity>) -> Expr {
    let own = event::Column::Id.into_expr().equals(event_attendee::Column::EventId.as_column_ref());
    Expr::exists(events.filter(own).select_only().expr_as(Expr::val(1), "one").into_query())
}

fn reachable(tenant: Tenant) -> Select<event_attendee::Entity> {
    visible(tenant).filter(to_one_of(events::reachable(tenant)))
}

/// The visible answer that a key names.
pub async fn find(db: &impl ConnectionTrait, tenant: Tenant, key: &Key) -> Result<Option<event_attendee::Model>> {
    let condition = match key {
        Key::Id(id) => event_attendee::Column::Id.eq(*id),
        Key::Uri(uri) => event_attendee::Column::RecordUri.eq(uri),
        Key::Attendance(event, attendee) => {
            let people = account::ids_of(db.get_database_backend(), tenant, std::slice::from_ref(attendee));
            event_attendee::Column::EventId.eq(*event).and(event_attendee::Column::UserId.in_subquery(people))
        }
    };
    Ok(reachable(tenant).filter(condition).one(db).await?)
}

/// Visible answers by id.
pub async fn by_ids(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    ids: Vec<i64>,
) -> Result<HashMap<i64, Arc<event_attendee::Model>>> {
    let condition = among(db.get_database_backend(), event_attendee::Column::Id, ids);
    let rows = reachable(tenant).filter(condition).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, Arc::new(row))).collect())
}

/// A page of the visible answers to listed events, the latest change first.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    filter: &Filter,
    slice: &Slice,
) -> Result<Page<event_attendee::Model>> {
    order().page(db, filtered(db, tenant, filter)?, slice).await
}

/// How many visible answers to listed events there are: exact up to [`page::MAX_TOTAL`], one more for all larger numbers.
pub async fn count(db: &impl ConnectionTrait, tenant: Tenant, filter: &Filter) -> Result<u64> {
    page::count(db, filtered(db, tenant, filter)?).await
}

/// The same page of the visible answers to each of several events, which the caller was allowed to see; the latest
/// change first, in one statement. `status` empty: all answers.
pub async fn of_events(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    events: Vec<i64>,
    status: &[RsvpStatus],
    slice: &Slice,
) -> Result<HashMap<i64, Page<event_attendee::Model>>> {
    let mut select = visible(tenant).filter(among(db.get_database_backend(), event_attendee::Column::EventId, events));
    if !status.is_empty() {
        select = select.filter(event_attendee::Column::Status.is_in(status.iter().copied()));
    }
    let group = Group::<event_attendee::Entity> { column: event_attendee::Column::EventId, of: |row| row.event_id };
    order().page_of_each(db, select, &group, slice).await
}

fn filtered(db: &impl ConnectionTrait, tenant: Tenant, filter: &Filter) -> Result<Select<event_attendee::Entity>> {
    use event_attendee::Column::{EventId, SourceType, Status, UpdatedAt, UserId};
    let backend = db.get_database_backend();
    let mut all = Condition::all();
    if let Some(ids) = &filter.events {
        all = all.add(among(backend, EventId, bounded("eventIds", ids)?.to_vec()));
    }
    if let Some(actors) = &filter.attendees {
        all = all.add(UserId.in_subquery(account::ids_of(backend, tenant, bounded("attendees", actors)?)));
    }
    let all = all
        .add_option(filter.users.as_ref().map(|users| among(backend, UserId, users.clone())))
        .add_option(filter.status.as_ref().map(|values| Status.is_in(values.iter().copied())))
        .add_option(filter.source.as_ref().map(|values| SourceType.is_in(values.iter().copied())))
        .add_option(filter.updated_at.map(|range| range.condition(UpdatedAt)));
    Ok(visible(tenant).filter(to_one_of(events::listed(tenant))).filter(all))
}

fn bounded<'a, T>(field: &'static str, values: &'a [T]) -> Result<&'a [T]> {
    if values.len() > MAX_VALUES {
        return Err(Error::invalid(field, "TOO_MANY_VALUES", format!("at most {MAX_VALUES} values")));
    }
    Ok(values)
}

/// How a list of answers is cut into pages.
pub(crate) fn order() -> Order<event_attendee::Entity> {
    Order {
        tag: b'r',
        key: event_attendee::Column::UpdatedAt,
        kind: KeyKind::Instant,
        nullable: false,
        descending: true,
        id: event_attendee::Column::Id,
        position: |row| Position { key: Some(row.updated_at.timestamp_micros()), id: row.id },
    }
}
