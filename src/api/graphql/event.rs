//! Events.

use std::sync::Arc;

use anyhow::anyhow;
use async_graphql::{Context, ID, Object, SimpleObject};
use entities::event::Model;

use super::{
    account::Account,
    context::Surroundings,
    directives::{cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    id::{self, Kind},
    loaders::RsvpsOf,
    location::{EventLink, EventLocation},
    page::{Total, connection},
    record::AtprotoRecord,
    rsvp::RsvpConnection,
    scalars::{DateTime, TimeZone, Url},
    sets::{EventMode, EventStatus, EventVisibility, RsvpStatus, SourceType, SyncSide, stored},
};
use crate::{
    domain::{
        event::{self as events, Sort},
        page::{Page, Wanted},
        rsvp,
    },
    error::Error,
};

/// A calendar event.
#[derive(Clone, Debug)]
pub(crate) struct Event(pub(crate) Arc<Model>);

impl From<Arc<Model>> for Event {
    fn from(row: Arc<Model>) -> Self {
        Self(row)
    }
}

/// Numbers of answers, kept by the ingestion pipeline.
#[derive(Clone, Copy, Debug, SimpleObject)]
#[expect(clippy::struct_field_names, reason = "the names of the schema")]
pub(crate) struct AttendanceSummary {
    /// Going.
    confirmed_count: i32,
    /// Interested.
    maybe_count: i32,
    /// Not going.
    cancelled_count: i32,
}

/// Provenance of an event.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct EventSource {
    /// System of origin.
    #[graphql(name = "type")]
    kind: SourceType,
    /// Identifier there; for the ATProtocol network the URI of the record.
    external_id: Option<String>,
    /// Page there.
    url: Option<Url>,
    /// Side whose changes win when there is no field policy.
    source_of_truth: SyncSide,
    /// First seen by the pipeline.
    ingested_at: DateTime,
}

connection! {
    /// Page of events.
    EventConnection,
    /// Event in a page.
    EventEdge,
    /// Position of the event.
    /// The event.
    Event
}

impl EventConnection {
    /// The connection of a page in this order.
    pub(super) fn of(page: &Page<Model>, sort: Sort, total: Total) -> Self {
        let order = events::order(sort);
        let edges = page.rows.iter().map(|row| (order.cursor(row), Event(Arc::clone(row)))).collect();
        Self::new(edges, (page.has_next, page.has_previous), total)
    }
}

/// A calendar event.
#[Object]
impl Event {
    /// Opaque global identifier; stable for the life of the object.
    pub(super) async fn id(&self) -> ID {
        id::encode(Kind::Event, self.0.id)
    }

    /// Human-readable key, unique in the tenant.
    fn slug(&self) -> &str {
        &self.0.slug
    }

    /// Title.
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Description as plain text or Markdown.
    fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// Start; null where the record names none.
    fn starts_at(&self) -> Option<DateTime> {
        self.0.starts_at.map(DateTime)
    }

    /// End, when known.
    fn ends_at(&self) -> Option<DateTime> {
        self.0.ends_at.map(DateTime)
    }

    /// Zone the organiser plans in, when the record names one.
    fn time_zone(&self) -> Option<TimeZone> {
        self.0.time_zone.as_deref().map(TimeZone::from)
    }

    /// Lifecycle state.
    fn status(&self) -> EventStatus {
        self.0.status.into()
    }

    /// Attendance mode.
    fn mode(&self) -> EventMode {
        self.0.mode.into()
    }

    /// Who may see it.
    fn visibility(&self) -> EventVisibility {
        self.0.visibility.into()
    }

    /// Places, physical and virtual, in the organiser's order.
    fn locations(&self) -> Vec<EventLocation> {
        self.0.locations.0.iter().map(EventLocation::from).collect()
    }

    /// Links, in the organiser's order.
    fn links(&self) -> Vec<EventLink> {
        self.0.links.0.iter().map(EventLink::from).collect()
    }

    /// Member or shadow account that organises the event. For events that programs bring it is the shadow account of the site
    /// that they come from.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn organizer(&self, ctx: &Context<'_>) -> Fallible<Account> {
        Some(Account::load(ctx, self.0.user_id).await)
    }

    /// Confirmed, maybe and cancelled attendance.
    fn attendance(&self) -> AttendanceSummary {
        AttendanceSummary {
            confirmed_count: self.0.confirmed_count,
            maybe_count: self.0.maybe_count,
            cancelled_count: self.0.cancelled_count,
        }
    }

    /// People who answered, the latest change of an answer first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn rsvps(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Only these answers.")] status: Option<Vec<RsvpStatus>>,
    ) -> Fallible<RsvpConnection> {
        Some(answers(ctx, &self.0, &Wanted { first, after, last, before }, stored(status)).await)
    }

    /// Where the event comes from and which side is authoritative.
    fn source(&self) -> EventSource {
        let kind = self.0.source_type.into();
        EventSource {
            kind,
            external_id: match kind {
                SourceType::Openmeet => None,
                SourceType::Bluesky => self.0.record_uri.clone(),
                SourceType::Web | SourceType::Other => self.0.source_id.clone(),
            },
            url: self.0.source_url.as_deref().map(Url::from),
            source_of_truth: if kind == SourceType::Openmeet { SyncSide::Local } else { SyncSide::Remote },
            ingested_at: self.0.ingested_at.into(),
        }
    }

    /// Copy of the event on the ATProtocol network; null when it is not published there.
    fn atproto(&self) -> Option<AtprotoRecord> {
        AtprotoRecord::new(self.0.record_uri.as_deref(), self.0.record_cid.as_deref())
    }

    /// Creation, as the record says, else when first seen.
    fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// Last change.
    fn updated_at(&self) -> DateTime {
        self.0.updated_at.into()
    }
}

async fn answers(
    ctx: &Context<'_>,
    event: &Model,
    wanted: &Wanted,
    status: Option<Vec<entities::sets::RsvpStatus>>,
) -> Result<RsvpConnection, Failure> {
    use entities::sets::RsvpStatus::{Cancelled, Confirmed, Maybe};
    let slice = rsvp::order().slice(wanted, ctx.app()?.config.graphql.max_page_size)?;
    let mut status = match status {
        None => vec![Confirmed, Maybe, Cancelled],
        // Nobody gave one of no answers.
        Some(none) if none.is_empty() => return Ok(RsvpConnection::new(Vec::new(), (false, false), Total::Known(0))),
        Some(some) => some,
    };
    status.sort_unstable();
    status.dedup();
    // The pipeline counts what is visible, so that nobody has to.
    let count = |status: &entities::sets::RsvpStatus| match status {
        Confirmed => event.confirmed_count,
        Maybe => event.maybe_count,
        Cancelled => event.cancelled_count,
    };
    let total = status.iter().map(count).map(|count| u64::try_from(count).unwrap_or_default()).sum();
    if status.len() == 3 {
        status.clear();
    }
    let page = ctx.loaders()?.rsvps_of(RsvpsOf { event: event.id, status, slice }).await?;
    Ok(RsvpConnection::of(&page, Total::Known(total)))
}

/// Listed events of an organiser, soonest first.
pub(super) async fn of_organizer(ctx: &Context<'_>, user: i64, wanted: &Wanted) -> Result<EventConnection, Failure> {
    let sort = Sort::default();
    let slice = events::order(sort).slice(wanted, ctx.app()?.config.graphql.max_page_size)?;
    let page = ctx.loaders()?.events_of(user, slice).await?;
    Ok(EventConnection::of(&page, sort, Total::EventsOf(user)))
}

/// The event that something visible belongs to.
pub(super) async fn load(ctx: &Context<'_>, event: i64) -> Result<Event, Failure> {
    let row = ctx.loaders()?.event(event).await?;
    row.map(Event).ok_or_else(|| Error::bug(anyhow!("event {event} of a visible answer is not visible")).into())
}
