//! Answers to events.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, OneofObject};
use entities::event_attendee::Model;

use super::{
    account::Account,
    context::Surroundings,
    directives::{cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    event::{self, Event},
    filter::{ActorRef, DateTimeRange},
    id::{self, Kind},
    page::{Total, connection},
    record::AtprotoRecord,
    scalars::{AtUri, DateTime},
    sets::{RsvpStatus, SourceType, stored},
};
use crate::{
    domain::{
        page::{Page, Wanted},
        rsvp::{self, Filter, Key},
    },
    error::Error,
};

/// One person's answer to one event.
#[derive(Clone, Debug)]
pub(crate) struct Rsvp(pub(crate) Arc<Model>);

connection! {
    /// Page of RSVPs.
    RsvpConnection,
    /// RSVP in a page.
    RsvpEdge,
    /// Position of the RSVP.
    /// The RSVP.
    Rsvp
}

impl RsvpConnection {
    /// The connection of a page.
    pub(super) fn of(page: &Page<Model>, total: Total) -> Self {
        let order = rsvp::order();
        let edges = page.rows.iter().map(|row| (order.cursor(row), Rsvp(Arc::clone(row)))).collect();
        Self::new(edges, (page.has_next, page.has_previous), total)
    }
}

/// One person's answer to one event.
#[Object]
impl Rsvp {
    /// Opaque global identifier; stable for the life of the object.
    pub(super) async fn id(&self) -> ID {
        id::encode(Kind::Rsvp, self.0.id)
    }

    /// Event that was answered.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn event(&self, ctx: &Context<'_>) -> Fallible<Event> {
        Some(event::load(ctx, self.0.event_id).await)
    }

    /// Who answered.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn attendee(&self, ctx: &Context<'_>) -> Fallible<Account> {
        Some(Account::load(ctx, self.0.user_id).await)
    }

    /// The answer.
    fn status(&self) -> RsvpStatus {
        self.0.status.into()
    }

    /// System of origin.
    fn source(&self) -> SourceType {
        self.0.source_type.into()
    }

    /// Copy on the ATProtocol network.
    fn atproto(&self) -> Option<AtprotoRecord> {
        AtprotoRecord::new(self.0.record_uri.as_deref(), self.0.record_cid.as_deref())
    }

    /// First answer.
    fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// Latest change of the answer.
    fn updated_at(&self) -> DateTime {
        self.0.updated_at.into()
    }
}

/// Exactly one key of an RSVP.
#[derive(Clone, Debug, OneofObject)]
pub(crate) enum RsvpLookup {
    /// Global identifier.
    Id(ID),
    /// URI of the ATProtocol record.
    Uri(AtUri),
    /// Event and attendee together.
    Attendance(AttendanceKeyInput),
}

/// Natural key of an RSVP.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct AttendanceKeyInput {
    /// Event that is attended.
    event_id: ID,
    /// Person who attends.
    attendee: ActorRef,
}

/// Conditions on RSVPs; all given conditions must hold, lists match any member and an empty list matches nothing.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct RsvpFilter {
    /// To one of these events; at most 100.
    event_ids: Option<Vec<ID>>,
    /// By one of these people; at most 100.
    attendees: Option<Vec<ActorRef>>,
    /// Answers.
    status: Option<Vec<RsvpStatus>>,
    /// Systems of origin.
    source: Option<Vec<SourceType>>,
    /// Changed inside the range.
    updated_at: Option<DateTimeRange>,
}

impl RsvpFilter {
    fn read(self) -> Result<Filter, Error> {
        let decode = |ids: Vec<ID>| ids.iter().map(|id| id::decode_as(Kind::Event, id, "eventIds")).collect();
        Ok(Filter {
            events: self.event_ids.map(decode).transpose()?,
            attendees: stored(self.attendees),
            users: None,
            status: stored(self.status),
            source: stored(self.source),
            updated_at: self.updated_at.map(Into::into),
        })
    }
}

/// Entry points for reading RSVPs.
#[derive(Debug, Default)]
pub(crate) struct RsvpQuery;

/// Entry points for reading RSVPs.
#[Object]
impl RsvpQuery {
    /// One RSVP by exactly one of its keys; null when missing or not visible to the caller.
    async fn rsvp(&self, ctx: &Context<'_>, #[graphql(desc = "Which RSVP.")] by: RsvpLookup) -> Fallible<Rsvp> {
        find(ctx, by).await.transpose()
    }

    /// RSVPs to public events, the latest change first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn rsvps(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<RsvpFilter>,
    ) -> Fallible<RsvpConnection> {
        Some(list(ctx, &Wanted { first, after, last, before }, filter).await)
    }
}

async fn find(ctx: &Context<'_>, by: RsvpLookup) -> Result<Option<Rsvp>, Failure> {
    let key = match by {
        RsvpLookup::Id(id) => {
            let id = id::decode_as(Kind::Rsvp, &id, "id")?;
            return Ok(ctx.loaders()?.rsvp(id).await?.map(Rsvp));
        }
        RsvpLookup::Uri(uri) => Key::Uri(uri.0),
        RsvpLookup::Attendance(key) => {
            Key::Attendance(id::decode_as(Kind::Event, &key.event_id, "eventId")?, key.attendee.into())
        }
    };
    let app = ctx.app()?;
    Ok(rsvp::find(app.db.read(), app.tenant, &key).await?.map(|row| Rsvp(Arc::new(row))))
}

async fn list(ctx: &Context<'_>, wanted: &Wanted, filter: Option<RsvpFilter>) -> Result<RsvpConnection, Failure> {
    list_of(ctx, wanted, filter.map(RsvpFilter::read).transpose()?.unwrap_or_default()).await
}

/// A page of the answers for which this holds.
pub(super) async fn list_of(ctx: &Context<'_>, wanted: &Wanted, filter: Filter) -> Result<RsvpConnection, Failure> {
    let app = ctx.app()?;
    let slice = rsvp::order().slice(wanted, app.config.graphql.max_page_size)?;
    let page = rsvp::list(app.db.read(), app.tenant, &filter, &slice).await?;
    Ok(RsvpConnection::of(&page, Total::Rsvps(Box::new(filter))))
}
