//! Finding events.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, OneofObject};

use super::{
    context::Surroundings,
    directives::{SCAN, SIFT, cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    event::{Event, EventConnection},
    filter::{ActorRef, DateTimeRange, GeoRadius},
    id::{self, Kind},
    page::Total,
    scalars::AtUri,
    sets::{EventMode, EventOrderField, EventStatus, OrderDirection, SourceType, stored},
};
use crate::{
    domain::{
        event::{self as events, Filter, Key, Sort, SortField},
        page::Wanted,
    },
    error::Error,
};

/// Exactly one key of an event.
#[derive(Clone, Debug, OneofObject)]
pub(crate) enum EventLookup {
    /// Global identifier.
    Id(ID),
    /// Human-readable slug.
    Slug(String),
    /// URI of the ATProtocol record.
    Uri(AtUri),
    /// Identifier in the system the event came from.
    Source(SourceKeyInput),
}

/// Identifier in an external system.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct SourceKeyInput {
    /// External system.
    #[graphql(name = "type")]
    kind: SourceType,
    /// Identifier there, as in `EventSource.externalId`.
    id: String,
}

/// Sort order of events.
#[derive(Clone, Copy, Debug, InputObject)]
pub(crate) struct EventOrder {
    /// Sort key.
    field: EventOrderField,
    /// Direction.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

impl EventOrder {
    const SOONEST: Self = Self { field: EventOrderField::StartsAt, direction: OrderDirection::Asc };
}

impl From<EventOrder> for Sort {
    fn from(order: EventOrder) -> Self {
        let field = match order.field {
            EventOrderField::StartsAt => SortField::StartsAt,
            EventOrderField::CreatedAt => SortField::CreatedAt,
            EventOrderField::UpdatedAt => SortField::UpdatedAt,
            EventOrderField::AttendeeCount => SortField::AttendeeCount,
        };
        Self { field, descending: order.direction == OrderDirection::Desc }
    }
}

/// Conditions on events; all given conditions must hold, lists match any member and an empty list matches nothing.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct EventFilter {
    /// Words, whatever their case, or beginnings of words: each begins a word of name or description. Punctuation does
    /// not matter, and a text without words does not narrow the list; at most 8 words and 200 characters.
    #[graphql(directive = cost::apply(SCAN, None, None))]
    query: Option<String>,
    /// Start falls inside the range; events without a start never match.
    starts_at: Option<DateTimeRange>,
    /// Changed inside the range.
    updated_at: Option<DateTimeRange>,
    /// Lifecycle states.
    status: Option<Vec<EventStatus>>,
    /// Attendance modes.
    mode: Option<Vec<EventMode>>,
    /// Systems of origin.
    source: Option<Vec<SourceType>>,
    /// Organiser is one of these accounts; at most 100.
    organizers: Option<Vec<ActorRef>>,
    /// Organiser is (or is not) a shadow account.
    organized_by_shadow_account: Option<bool>,
    /// Takes place near a point; events without a known point never match.
    #[graphql(directive = cost::apply(SIFT, None, None))]
    near: Option<GeoRadius>,
}

impl EventFilter {
    fn read(self) -> Result<Filter, Error> {
        Ok(Filter {
            words: self.query.map(|query| events::search_words(&query)).transpose()?.unwrap_or_default(),
            starts_at: self.starts_at.map(Into::into),
            updated_at: self.updated_at.map(Into::into),
            status: stored(self.status),
            mode: stored(self.mode),
            source: stored(self.source),
            organizers: stored(self.organizers),
            organized_by_shadow: self.organized_by_shadow_account,
            near: self.near.map(GeoRadius::read).transpose()?,
        })
    }
}

/// Entry points for reading events.
#[derive(Debug, Default)]
pub(crate) struct EventQuery;

/// Entry points for reading events.
#[Object]
impl EventQuery {
    /// One event by exactly one of its keys; null when missing or not visible to the caller.
    async fn event(&self, ctx: &Context<'_>, #[graphql(desc = "Which event.")] by: EventLookup) -> Fallible<Event> {
        find(ctx, by).await.transpose()
    }

    /// Public events, soonest first unless ordered otherwise.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<EventFilter>,
        #[graphql(
            desc = "Sort order; cursors belong to the field they were made with.",
            default_with = "Some(EventOrder::SOONEST)"
        )]
        order_by: Option<EventOrder>,
    ) -> Fallible<EventConnection> {
        Some(
            list(ctx, &Wanted { first, after, last, before }, filter, order_by.unwrap_or(EventOrder::SOONEST).into())
                .await,
        )
    }
}

async fn find(ctx: &Context<'_>, by: EventLookup) -> Result<Option<Event>, Failure> {
    let key = match by {
        // Through the loader: aliases that ask for several events then share a statement.
        EventLookup::Id(id) => {
            let id = id::decode_as(Kind::Event, &id, "id")?;
            return Ok(ctx.loaders()?.event(id).await?.map(Event));
        }
        EventLookup::Slug(slug) => Key::Slug(slug),
        EventLookup::Uri(uri) => Key::Uri(uri.0),
        EventLookup::Source(source) => Key::Source(source.kind.into(), source.id),
    };
    let app = ctx.app()?;
    Ok(events::find(app.db.read(), app.tenant, &key).await?.map(|row| Event(Arc::new(row))))
}

async fn list(
    ctx: &Context<'_>,
    wanted: &Wanted,
    filter: Option<EventFilter>,
    sort: Sort,
) -> Result<EventConnection, Failure> {
    let app = ctx.app()?;
    let filter = filter.map(EventFilter::read).transpose()?.unwrap_or_default();
    let slice = events::order(sort).slice(wanted, app.config.graphql.max_page_size)?;
    let page = events::list(app.db.read(), app.tenant, &filter, sort, &slice).await?;
    Ok(EventConnection::of(&page, sort, Total::Events(Box::new(filter))))
}
