//! Bringing events and answers, and taking them away: the operations of the integration API, through the same use cases, with
//! the same reasons.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::external::{ExternalEventInput, ExternalRsvpInput, item};
use crate::{
    api::graphql::{
        context::Surroundings,
        directives::{AccessScope, SCAN, SIFT, access, cost, semanticNonNull},
        error::{Failure, Fallible},
        payload::payload,
        query::Query,
        rsvp::Rsvp,
        sets::SourceType,
        user_error::{UserError, outcome},
    },
    app::App,
    domain::{
        integration::{self, Kind, Receipt},
        key::ServiceKey,
    },
    error::{Error, Result},
};

/// Most items of one call.
const ITEMS: usize = 100;

/// Input of `ingestEvents`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct IngestEventsInput {
    /// Events, 1 to 100, taken in this order; for more at once there is the REST API.
    events: Vec<ExternalEventInput>,
}

/// Input of `ingestRsvps`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct IngestRsvpsInput {
    /// Answers, 1 to 100, taken in this order; for more at once there is the REST API.
    rsvps: Vec<ExternalRsvpInput>,
}

/// Input of `deleteIngestedEvent`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct DeleteIngestedEventInput {
    /// System of origin; one that the caller's key speaks for.
    source_type: SourceType,
    /// Identifier there: on the network the AT-URI of the record; of what REST brought in the name of a site (`luma`), which is
    /// `OTHER` here, that name, a colon, and the identifier.
    source_id: String,
}

/// Input of `deleteIngestedRsvp`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct DeleteIngestedRsvpInput {
    /// System of origin; one that the caller's key speaks for.
    source_type: SourceType,
    /// Identifier there: on the network the AT-URI of the record; of what REST brought in the name of a site (`luma`), which is
    /// `OTHER` here, that name, a colon, and the identifier.
    source_id: String,
}

/// What became of an item that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "integration::Outcome")]
pub(crate) enum IngestOutcome {
    /// It was not known.
    Created,
    /// It was known otherwise.
    Updated,
    /// It was known, or overtaken by a later revision.
    Unchanged,
    /// It was not known and tells of an event that was: it is taken for an update of that one, or for a copy of an event of
    /// the network, which speaks for itself.
    Duplicate,
    /// An answer whose event has not come yet, or is a copy of one of the network: it is kept until it is an event of its own.
    Waiting,
}

/// What became of one event that was brought.
#[derive(Debug, SimpleObject)]
pub(crate) struct IngestedEvent {
    /// What became of it; null when it was refused.
    outcome: Option<IngestOutcome>,
    /// Slug of the event; null where there is nothing to show.
    slug: Option<String>,
    /// Identifier for `deleteIngestedEvent`; null when it was refused.
    source_id: Option<String>,
    /// Mistakes in this item; empty when it was taken.
    user_errors: Vec<UserError>,
}

/// What became of one answer that was brought.
#[derive(Debug)]
pub(crate) struct IngestedRsvp {
    outcome: Option<IngestOutcome>,
    attendee: Option<i64>,
    source_id: Option<String>,
    user_errors: Vec<UserError>,
}

/// What became of one answer that was brought.
#[Object]
impl IngestedRsvp {
    /// What became of it; null when it was refused.
    async fn outcome(&self) -> Option<IngestOutcome> {
        self.outcome
    }

    /// The answer; null until its event comes, and where it is not shown.
    async fn rsvp(&self, ctx: &Context<'_>) -> Fallible<Rsvp> {
        let load = async {
            let Some(attendee) = self.attendee else { return Ok::<_, Failure>(None) };
            Ok(ctx.loaders()?.rsvp(attendee).await?.map(Rsvp))
        };
        load.await.transpose()
    }

    /// Identifier for `deleteIngestedRsvp`, also where the input had none; null when it was refused.
    async fn source_id(&self) -> Option<&str> {
        self.source_id.as_deref()
    }

    /// Mistakes in this item; empty when it was taken.
    async fn user_errors(&self) -> &[UserError] {
        &self.user_errors
    }
}

payload! {
    /// Result of `ingestEvents`.
    IngestEventsPayload {
        /// What became of each event, in the order of the input; one that is refused stops no other.
        results: Vec<IngestedEvent>,
    }
}

payload! {
    /// Result of `ingestRsvps`.
    IngestRsvpsPayload {
        /// What became of each answer, in the order of the input; one that is refused stops no other.
        results: Vec<IngestedRsvp>,
    }
}

payload! {
    /// Result of `deleteIngestedEvent`.
    DeleteIngestedEventPayload {
        /// Identifier of what was taken away.
        deleted_source_id: Option<String>,
    }
}

payload! {
    /// Result of `deleteIngestedRsvp`.
    DeleteIngestedRsvpPayload {
        /// Identifier of what was taken away.
        deleted_source_id: Option<String>,
    }
}

/// Bringing events and answers, and taking them away.
#[derive(Debug, Default)]
pub(crate) struct IntegrationMutation;

/// Bringing events and answers, and taking them away.
#[Object]
impl IntegrationMutation {
    /// Bring events of other systems. What is answered without a mistake is durable; the same item twice changes nothing.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SCAN, None, None)
    )]
    async fn ingest_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: IngestEventsInput,
    ) -> Fallible<IngestEventsPayload> {
        Some(ingest_events(ctx, &input).await)
    }

    /// Bring answers to events of other systems. What is answered without a mistake is durable; the same item twice changes
    /// nothing.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SCAN, None, None)
    )]
    async fn ingest_rsvps(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: IngestRsvpsInput,
    ) -> Fallible<IngestRsvpsPayload> {
        Some(ingest_rsvps(ctx, &input).await)
    }

    /// Take away an event that was brought.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn delete_ingested_event(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: DeleteIngestedEventInput,
    ) -> Fallible<DeleteIngestedEventPayload> {
        let DeleteIngestedEventInput { source_type, source_id } = input;
        let removed = remove(ctx, Kind::Event, source_type, source_id).await;
        Some(removed.map(|(deleted_source_id, user_errors)| DeleteIngestedEventPayload {
            deleted_source_id,
            user_errors,
            query: Query::default(),
        }))
    }

    /// Take away an answer that was brought.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn delete_ingested_rsvp(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: DeleteIngestedRsvpInput,
    ) -> Fallible<DeleteIngestedRsvpPayload> {
        let DeleteIngestedRsvpInput { source_type, source_id } = input;
        let removed = remove(ctx, Kind::Rsvp, source_type, source_id).await;
        Some(removed.map(|(deleted_source_id, user_errors)| DeleteIngestedRsvpPayload {
            deleted_source_id,
            user_errors,
            query: Query::default(),
        }))
    }
}

async fn ingest_events(ctx: &Context<'_>, input: &IngestEventsInput) -> Result<IngestEventsPayload, Failure> {
    let items = input.events.iter().map(item).collect();
    let (receipts, user_errors) = outcome(submit(ctx, Kind::Event, "events", items).await, &["input"])?;
    let mut results = Vec::new();
    for (index, receipt) in receipts.into_iter().flatten().enumerate() {
        let (receipt, user_errors) = told("events", index, receipt)?;
        let outcome = receipt.as_ref().map(|receipt| receipt.outcome.into());
        let (slug, source_id) = receipt.map(|receipt| (receipt.slug, receipt.source_id)).unzip();
        results.push(IngestedEvent { outcome, slug: slug.flatten(), source_id, user_errors });
    }
    Ok(IngestEventsPayload { results, user_errors, query: Query::default() })
}

async fn ingest_rsvps(ctx: &Context<'_>, input: &IngestRsvpsInput) -> Result<IngestRsvpsPayload, Failure> {
    let items = input.rsvps.iter().map(item).collect();
    let (receipts, user_errors) = outcome(submit(ctx, Kind::Rsvp, "rsvps", items).await, &["input"])?;
    let mut results = Vec::new();
    for (index, receipt) in receipts.into_iter().flatten().enumerate() {
        let (receipt, user_errors) = told("rsvps", index, receipt)?;
        let outcome = receipt.as_ref().map(|receipt| receipt.outcome.into());
        let (attendee, source_id) = receipt.map(|receipt| (receipt.attendee, receipt.source_id)).unzip();
        results.push(IngestedRsvp { outcome, attendee: attendee.flatten(), source_id, user_errors });
    }
    Ok(IngestRsvpsPayload { results, user_errors, query: Query::default() })
}

/// One item's receipt, or its mistake.
fn told(list: &str, index: usize, receipt: Result<Receipt>) -> Result<(Option<Receipt>, Vec<UserError>), Failure> {
    match receipt {
        Ok(receipt) => Ok((Some(receipt), Vec::new())),
        Err(error) => Ok((None, vec![UserError::of(error, &["input", list, &index.to_string()])?])),
    }
}

/// An outcome for each item; those that cannot be written as one have theirs already.
async fn submit(
    ctx: &Context<'_>,
    kind: Kind,
    list: &'static str,
    items: Vec<Result<String>>,
) -> Result<Vec<Result<Receipt>>> {
    let (app, key) = entered(ctx)?;
    if items.is_empty() || items.len() > ITEMS {
        return Err(Error::invalid(list, "BATCH_SIZE_OUT_OF_RANGE", format!("1 to {ITEMS} items")));
    }
    integration::count(app, &key, items.len()).await?;
    let texts: Vec<&str> = items.iter().filter_map(|item| item.as_deref().ok()).collect();
    let mut receipts = integration::submit(app, &key, kind, &texts).await?.into_iter();
    let unanswered = || Error::bug(anyhow::anyhow!("an item has no outcome"));
    let all = items.into_iter().map(|item| item.and_then(|_| receipts.next().unwrap_or_else(|| Err(unanswered()))));
    Ok(all.collect())
}

async fn remove(
    ctx: &Context<'_>,
    kind: Kind,
    source: SourceType,
    id: String,
) -> Result<(Option<String>, Vec<UserError>), Failure> {
    let remove = async {
        let (app, key) = entered(ctx)?;
        integration::count(app, &key, 1).await?;
        let source = entities::sets::SourceType::from(source).as_str();
        integration::remove(app, &key, kind, source, &id).await
    };
    let (removed, user_errors) = outcome(remove.await, &["input"])?;
    Ok((removed.map(|()| id), user_errors))
}

/// What an administrator brings with.
fn entered<'a>(ctx: &'a Context<'_>) -> Result<(&'a App, ServiceKey)> {
    let key = ctx.actor().brings()?;
    let app = ctx.data_opt::<App>().ok_or_else(|| Error::bug(anyhow::anyhow!("the schema has no app")))?;
    Ok((app, key))
}
