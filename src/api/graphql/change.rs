//! The change log: in pages, and live.
//!
//! Both doors hand out the same changes with the same cursors, so that a client may poll, subscribe, and go back to
//! polling, and never miss one.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject, Subscription};
use futures_util::{Stream, StreamExt};

use super::{
    context::Surroundings,
    directives::{cost, semanticNonNull},
    error::{Failure, Fallible},
    event::Event,
    filter::{ActorRef, DateTimeRange, GeoRadius},
    id::{self, Kind},
    scalars::{AtUri, DateTime, StreamCursor},
    sets::{SourceType, stored},
    transport::{Course, Resumable, Turn},
};
use crate::{
    app::App,
    domain::{
        account::{self, Actor},
        change::{self, Change, Cursor, Filter},
        event::MAX_ACTORS,
    },
    error::{Error, Result},
};

/// Most changes of one page.
pub(super) const MAX_CHANGES: i32 = 500;

/// What subscribers who ask for the same share. Handles are looked up when a subscription begins.
pub(super) const SHARED: Resumable = Resumable { field: "eventIngested", after: "after", momentary: "handle" };

/// What happened to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::ChangeOperation")]
pub(crate) enum ChangeOperation {
    /// It appeared.
    Created,
    /// It changed.
    Updated,
    /// It went away, or out of sight.
    Deleted,
}

/// What a consumer of the change stream wants to see; all given conditions must hold, lists match any member.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct EventIngestedFilter {
    /// Systems of origin.
    source: Option<Vec<SourceType>>,
    /// Kinds of change.
    operation: Option<Vec<ChangeOperation>>,
    /// Only events of these authors, at most 100. A handle stands for whoever holds it when the request is made.
    organizers: Option<Vec<ActorRef>>,
    /// Start falls inside the range; events without a start never do.
    starts_at: Option<DateTimeRange>,
    /// Takes place near a point.
    near: Option<GeoRadius>,
}

/// One committed change of an ingested event.
#[derive(Clone, Debug)]
pub(crate) struct EventChange(Arc<Change>);

/// One committed change of an ingested event.
#[Object]
impl EventChange {
    /// Position in the stream; store it to resume.
    async fn cursor(&self) -> StreamCursor {
        text(self.0.cursor())
    }

    /// Kind of change.
    async fn operation(&self) -> ChangeOperation {
        self.0.row.operation.into()
    }

    /// Event as it is now, which may be later than this change; null once deleted or hidden.
    async fn event(&self) -> Option<Event> {
        self.0.event.clone().map(Event::from)
    }

    /// Identifier of the event, also once deleted.
    async fn event_id(&self) -> ID {
        id::encode(Kind::Event, self.0.row.event_id)
    }

    /// URI of the source record; null for events of other origins than the ATProtocol network.
    async fn uri(&self) -> Option<AtUri> {
        self.0
            .row
            .event_uri
            .as_deref()
            .filter(|_| self.0.row.source_type == entities::sets::SourceType::Bluesky)
            .map(AtUri::from)
    }

    /// System of origin.
    async fn source(&self) -> SourceType {
        self.0.row.source_type.into()
    }

    /// Fields that changed, by name in `Event`; empty for created and deleted.
    async fn changed_fields(&self) -> &[String] {
        &self.0.row.changed_fields.0
    }

    /// When the change happened at its source.
    async fn occurred_at(&self) -> DateTime {
        self.0.row.occurred_at.into()
    }

    /// When the pipeline committed it.
    async fn ingested_at(&self) -> DateTime {
        self.0.row.ingested_at.into()
    }
}

/// Changes in stream order.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct EventChangePage {
    /// Changes, oldest first.
    changes: Vec<EventChange>,
    /// Use as `after` for the next page, also when the page is empty.
    end_cursor: StreamCursor,
    /// More of the stream is waiting. A page may be short, even empty, while this holds: one page looks at a bounded part
    /// of the stream.
    has_more: bool,
}

/// Entry points for reading the change log.
#[derive(Debug, Default)]
pub(crate) struct ChangeQuery;

/// Entry points for reading the change log.
#[Object]
impl ChangeQuery {
    /// Committed ingestion changes after a stream cursor: the polling form of `Subscription.eventIngested`, with the same
    /// cursors, for clients that cannot hold a socket. Fails with the reason `CURSOR_EXPIRED` when changes after the
    /// cursor are no longer kept.
    #[graphql(
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(1, Some(vec!["first".to_owned()]), None)
    )]
    async fn event_changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only changes after this cursor; the oldest retained change when omitted.")] after: Option<
            StreamCursor,
        >,
        #[graphql(desc = "Page size, 1 to 500.", default = 100)] first: i32,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<EventIngestedFilter>,
    ) -> Fallible<EventChangePage> {
        Some(page(ctx, after, first, filter).await)
    }
}

/// Live changes of events.
#[derive(Debug, Default)]
pub(crate) struct ChangeSubscription;

/// Live changes of events.
#[Subscription]
impl ChangeSubscription {
    /// Changes committed by ingestion. With `after` the retained changes are replayed first and the live stream follows
    /// without a gap; fails with the reason `CURSOR_EXPIRED` when changes after the cursor are no longer kept.
    async fn event_ingested(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<EventIngestedFilter>,
        #[graphql(desc = "Resume after this cursor; live only when omitted.")] after: Option<StreamCursor>,
    ) -> Result<impl Stream<Item = Result<EventChange, Failure>>, Failure> {
        let (app, loaders) = (ctx.app()?, ctx.request_loaders()?);
        let filter = read_filter(app, filter).await?;
        let (course, turn) = (ctx.data_opt::<Course>(), ctx.data_opt::<Turn>());
        let plan = Course::plan(course, read_cursor(after)?.map(Cursor::position));
        let after = plan.after.map(Cursor::at);
        let changes = match after.filter(|_| plan.ends) {
            Some(after) => app.changes.replay(filter, after).await?.left_stream(),
            None => app.changes.subscribe(filter, after).await?.right_stream(),
        };
        let changes = Course::pace(course, turn, plan, changes, |change| change.cursor().position());
        Ok(changes.map(|change| {
            // What hangs on the event is read anew for every delivery.
            loaders.renew();
            change.map(EventChange).map_err(Failure::from)
        }))
    }
}

async fn page(
    ctx: &Context<'_>,
    after: Option<StreamCursor>,
    first: i32,
    filter: Option<EventIngestedFilter>,
) -> Result<EventChangePage, Failure> {
    let app = ctx.app()?;
    let (db, tenant) = (app.db.read(), app.tenant);
    let size = u64::try_from(first).ok().filter(|_| (1..=MAX_CHANGES).contains(&first));
    let size = size.ok_or_else(|| {
        Error::invalid("first", "PAGE_SIZE_OUT_OF_RANGE", format!("it must lie between 1 and {MAX_CHANGES}"))
    })?;
    let filter = read_filter(app, filter).await?;
    let page = change::page(db, tenant, read_cursor(after)?, &filter, size).await?;
    let changes = if ctx.look_ahead().field("changes").field("event").exists() {
        change::with_events(db, tenant, page.changes).await?
    } else {
        page.changes.into_iter().map(|row| Arc::new(Change { row, event: None })).collect()
    };
    let changes = changes.into_iter().map(EventChange).collect();
    Ok(EventChangePage { changes, end_cursor: text(page.end), has_more: page.has_more })
}

async fn read_filter(app: &App, filter: Option<EventIngestedFilter>) -> Result<Filter> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let organizers = match filter.organizers {
        None => None,
        Some(actors) if actors.len() > MAX_ACTORS => {
            return Err(Error::invalid("organizers", "TOO_MANY_VALUES", format!("at most {MAX_ACTORS} accounts")));
        }
        Some(actors) => {
            let actors: Vec<Actor> = actors.into_iter().map(Actor::from).collect();
            Some(account::dids_of(app.db.read(), &actors).await?)
        }
    };
    Ok(Filter {
        source: stored(filter.source),
        operation: stored(filter.operation),
        organizers,
        starts_at: filter.starts_at.map(Into::into),
        near: filter.near.map(GeoRadius::read).transpose()?,
    })
}

fn read_cursor(text: Option<StreamCursor>) -> Result<Option<Cursor>> {
    text.map(|cursor| cursor.0.parse()).transpose()
}

fn text(cursor: Cursor) -> StreamCursor {
    StreamCursor(cursor.to_string())
}
