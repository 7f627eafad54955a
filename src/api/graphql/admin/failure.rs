//! Messages that were put aside.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::watching::IngestFailureEntry;
use crate::{
    api::graphql::{
        context::Surroundings,
        directives::{SCAN, SIFT, cost, semanticNonNull},
        error::{Failure, Fallible},
        filter::DateTimeRange,
        id::{self, Kind},
        page::{Total, connection},
        scalars::{AtUri, DateTime, Did},
        sets::stored,
    },
    domain::{
        ingest::{
            Stage,
            failure::{self, Filter, Model},
        },
        page::Wanted,
    },
    error::{Error, Result},
    infra::atproto::syntax,
};

/// Longest text that is searched for.
const TEXT_CHARS: usize = 200;

/// Where a message failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Stage")]
pub(crate) enum IngestStage {
    /// In the queue already: a dead letter, which its consumers died of, or could not read.
    Queue,
    /// Its size, or its form.
    Receive,
    /// Which source speaks.
    Identify,
    /// Which account speaks.
    Attribute,
    /// What the record says.
    Map,
    /// Whether it is news.
    Dedupe,
    /// Which tenant gets it.
    Route,
    /// What it may say here.
    Validate,
    /// On its way into the tables.
    Persist,
    /// On the way to those who wait for it.
    Notify,
    /// A repository that has to be read again cannot be.
    Fetch,
}

/// What became of a message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::FailureState")]
pub(crate) enum IngestFailureState {
    /// Waits for a decision.
    Parked,
    /// Was tried again, with success, or put back into its queue.
    Resolved,
    /// Was given up.
    Discarded,
}

/// Conditions on messages that failed; all given conditions must hold, lists match any member and an empty list matches
/// nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub(crate) struct IngestFailureFilter {
    /// States; parked when omitted.
    state: Option<Vec<IngestFailureState>>,
    /// Stages that refused the message.
    stage: Option<Vec<IngestStage>>,
    /// Reasons in upper snake case, such as `EVENT_NAME_MISSING`.
    code: Option<Vec<String>>,
    /// Repository that the message is about.
    did: Option<Did>,
    /// Record that the message is about.
    uri: Option<AtUri>,
    /// Failed last inside the range.
    failed_at: Option<DateTimeRange>,
    /// Stands so in the payload or in the reason, letter for letter; at most 200 characters.
    #[graphql(directive = cost::apply(SCAN, None, None))]
    text: Option<String>,
}

impl IngestFailureFilter {
    /// The conditions; those that are parked where nothing is said.
    pub(super) fn read(filter: Option<Self>) -> Result<Filter> {
        let filter = filter.unwrap_or_default();
        if filter.text.as_ref().is_some_and(|text| text.is_empty() || text.chars().count() > TEXT_CHARS) {
            return Err(Error::invalid("text", "TEXT_LENGTH_OUT_OF_RANGE", format!("1 to {TEXT_CHARS} characters")));
        }
        Ok(Filter {
            ids: None,
            states: stored(filter.state).or(Filter::parked().states),
            stages: stored(filter.stage),
            codes: filter.code,
            did: filter.did.map(|did| did.0),
            uri: filter.uri.map(|uri| uri.0),
            failed_at: filter.failed_at.map(Into::into),
            text: filter.text,
        })
    }
}

/// A message that could not be applied.
#[derive(Clone, Debug)]
pub(crate) struct IngestFailure(pub(super) Arc<Model>);

connection! {
    /// Page of messages that could not be applied.
    IngestFailureConnection,
    /// Message in a page.
    IngestFailureEdge,
    /// Position of the message.
    /// The message.
    IngestFailure
}

impl IngestFailure {
    /// The message of a row.
    pub(in crate::api::graphql) fn of(row: Arc<Model>) -> Self {
        Self(row)
    }
}

/// A message that could not be applied.
#[Object]
impl IngestFailure {
    /// Opaque global identifier; stable for the life of the object.
    pub(in crate::api::graphql) async fn id(&self) -> ID {
        id::encode(Kind::Failure, self.0.id)
    }

    /// Where it failed last; null for a stage that this version of the gateway does not have.
    async fn stage(&self) -> Option<IngestStage> {
        Stage::of(&self.0.stage).map(Into::into)
    }

    /// Stable reason in upper snake case.
    async fn code(&self) -> &str {
        &self.0.code
    }

    /// Text for people; not stable.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Repository that it is about, as far as it could be read.
    async fn did(&self) -> Option<Did> {
        self.0.did.as_deref().filter(|did| syntax::Did::parse(did).is_ok()).map(Did::from)
    }

    /// Record that it is about, as far as it could be read.
    async fn uri(&self) -> Option<AtUri> {
        self.0.uri.as_deref().filter(|uri| syntax::AtUri::parse(uri).is_ok()).map(AtUri::from)
    }

    /// How often it failed.
    async fn attempts(&self) -> i32 {
        self.0.attempts
    }

    /// What became of it.
    async fn state(&self) -> IngestFailureState {
        self.0.state.into()
    }

    /// First failure.
    async fn first_failed_at(&self) -> DateTime {
        self.0.first_failed_at.into()
    }

    /// Latest failure.
    async fn last_failed_at(&self) -> DateTime {
        self.0.last_failed_at.into()
    }

    /// When it was last resolved or discarded.
    async fn resolved_at(&self) -> Option<DateTime> {
        self.0.resolved_at.map(DateTime)
    }

    /// The message as it came.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(20, None, None))]
    async fn payload(&self, ctx: &Context<'_>) -> Fallible<IngestFailurePayload> {
        Some(payload(ctx, self.0.id).await)
    }

    /// What happened to it, oldest first: its latest 100 attempts and decisions, as far back as they are kept.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(SIFT, None, None))]
    async fn history(&self, ctx: &Context<'_>) -> Fallible<Vec<IngestFailureEntry>> {
        Some(history(ctx, self.0.id).await)
    }
}

async fn payload(ctx: &Context<'_>, id: i64) -> Result<IngestFailurePayload, Failure> {
    let payload = ctx.loaders()?.payload(id).await?;
    // Cleared since it was listed.
    let payload = payload.ok_or_else(|| Error::NotFound { what: "payload", key: id.to_string() })?;
    let shown = payload.text.chars().count();
    let length = i32::try_from(payload.length).unwrap_or(i32::MAX);
    Ok(IngestFailurePayload {
        is_truncated: i64::try_from(shown).is_ok_and(|shown| shown < payload.length),
        text: payload.text.clone(),
        length,
    })
}

async fn history(ctx: &Context<'_>, id: i64) -> Result<Vec<IngestFailureEntry>, Failure> {
    let entries = ctx.loaders()?.history(id).await?;
    Ok(entries.iter().map(|entry| IngestFailureEntry::of(entry)).collect())
}

/// A message as it came. It may be anything, JSON or not.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct IngestFailurePayload {
    /// Its first 65,536 characters.
    text: String,
    /// Characters of the whole.
    length: i32,
    /// Whether there is more than `text` shows; `openmeet-gateway failures list` prints all of it.
    is_truncated: bool,
}

/// A page of messages.
pub(super) async fn list(
    ctx: &Context<'_>,
    wanted: &Wanted,
    filter: Option<IngestFailureFilter>,
) -> Result<IngestFailureConnection, Failure> {
    let app = ctx.app()?;
    let filter = IngestFailureFilter::read(filter)?;
    let order = failure::order();
    let slice = order.slice(wanted, app.config.graphql.max_page_size)?;
    let page = failure::page(app, ctx.actor(), &filter, &slice).await?;
    let edges = page.rows.iter().map(|row| (order.cursor(row), IngestFailure(Arc::clone(row)))).collect();
    let total = Total::Failures(Box::new(filter));
    Ok(IngestFailureConnection::new(edges, (page.has_next, page.has_previous), total))
}

/// One message.
pub(super) async fn find(ctx: &Context<'_>, id: &ID) -> Result<Option<IngestFailure>, Failure> {
    let id = id::decode_as(Kind::Failure, id, "id")?;
    let found = failure::find(ctx.app()?, ctx.actor(), id).await?;
    Ok(found.map(|row| IngestFailure(Arc::new(row))))
}
