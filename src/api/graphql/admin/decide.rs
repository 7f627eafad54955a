//! Deciding about messages that were put aside.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, OneofObject, SimpleObject};

use super::{
    decode_all,
    failure::{IngestFailure, IngestFailureFilter},
};
use crate::{
    api::graphql::{
        context::Surroundings,
        directives::{AccessScope, SCAN, access, cost, semanticNonNull},
        error::{Failure, Fallible},
        id::Kind,
        payload::payload,
        query::Query,
        user_error::{UserError, outcome},
    },
    app::App,
    domain::ingest::failure::{self, Became, Choice, Decided, Filter},
    error::{Error, Result},
};

/// Most messages of one call.
const MOST: i32 = 100;

/// Which messages; exactly one. Only parked ones are ever meant.
#[derive(Clone, Debug, OneofObject)]
pub(crate) enum IngestFailureSelection {
    /// By identifier, at most 100.
    Ids(Vec<ID>),
    /// All that match; what it says of states does not matter.
    Filter(IngestFailureFilter),
}

/// Input of `retryIngestFailures`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct RetryIngestFailuresInput {
    /// Which ones.
    select: IngestFailureSelection,
    /// At most so many, 1 to 100; those that were parked first come first.
    #[graphql(default = 100)]
    limit: i32,
    /// Only tell which ones, change nothing.
    #[graphql(default)]
    dry_run: bool,
}

/// Input of `discardIngestFailures`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct DiscardIngestFailuresInput {
    /// Which ones.
    select: IngestFailureSelection,
    /// Why, in at most 500 characters; kept in the history of each.
    reason: String,
    /// At most so many, 1 to 100; those that were parked first come first.
    #[graphql(default = 100)]
    limit: i32,
    /// Only tell which ones, change nothing.
    #[graphql(default)]
    dry_run: bool,
}

/// What became of a message that was decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum IngestFailureOutcome {
    /// Nothing: this was a dry run.
    Untouched,
    /// It was applied, or is overtaken by now.
    Resolved,
    /// A dead letter: it was put back into its queue, and is parked again should its consumers die of it again.
    Requeued,
    /// It failed again.
    Parked,
    /// It was given up.
    Discarded,
    /// It could not be tried, and waits as before.
    Failed,
    /// There was no time left for it; it waits as before.
    Skipped,
}

/// A message with what became of it.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct IngestFailureDecision {
    /// The message, as it is now.
    failure: IngestFailure,
    /// What became of it.
    outcome: IngestFailureOutcome,
    /// Stable reason, where it failed.
    code: Option<String>,
    /// Text for people, where it failed; not stable.
    message: Option<String>,
}

payload! {
    /// Result of `retryIngestFailures`.
    RetryIngestFailuresPayload {
        /// How many are parked and match, also beyond the limit, before anything was done; exact up to 10000, 10001 stands
        /// for more.
        matched_count: Option<i32>,
        /// What became of each.
        results: Vec<IngestFailureDecision>,
    }
}

payload! {
    /// Result of `discardIngestFailures`.
    DiscardIngestFailuresPayload {
        /// How many are parked and match, also beyond the limit, before anything was done; exact up to 10000, 10001 stands
        /// for more.
        matched_count: Option<i32>,
        /// What became of each.
        results: Vec<IngestFailureDecision>,
    }
}

/// Deciding about messages that were put aside.
#[derive(Debug, Default)]
pub(crate) struct FailureMutation;

/// Deciding about messages that were put aside.
#[Object]
impl FailureMutation {
    /// Try messages again that could not be applied: through the pipeline, or, where they are dead letters, through their
    /// queue.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SCAN, None, None)
    )]
    async fn retry_ingest_failures(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: RetryIngestFailuresInput,
    ) -> Fallible<RetryIngestFailuresPayload> {
        Some(retry(ctx, input).await)
    }

    /// Give messages up that could not be applied. They do not come back when they are received again.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SCAN, None, None)
    )]
    async fn discard_ingest_failures(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: DiscardIngestFailuresInput,
    ) -> Fallible<DiscardIngestFailuresPayload> {
        Some(discard(ctx, input).await)
    }
}

async fn retry(ctx: &Context<'_>, input: RetryIngestFailuresInput) -> Result<RetryIngestFailuresPayload, Failure> {
    let app = ctx.app()?;
    let decide = async {
        let choice = choice(app, &input.select, input.limit, input.dry_run)?;
        failure::retry(app, ctx.actor(), &choice).await
    };
    let (matched_count, results, user_errors) = told(decide.await, &input.select)?;
    Ok(RetryIngestFailuresPayload { matched_count, results, user_errors, query: Query::default() })
}

async fn discard(
    ctx: &Context<'_>,
    input: DiscardIngestFailuresInput,
) -> Result<DiscardIngestFailuresPayload, Failure> {
    let app = ctx.app()?;
    let decide = async {
        let choice = choice(app, &input.select, input.limit, input.dry_run)?;
        failure::discard(app, ctx.actor(), &choice, &input.reason).await
    };
    let (matched_count, results, user_errors) = told(decide.await, &input.select)?;
    Ok(DiscardIngestFailuresPayload { matched_count, results, user_errors, query: Query::default() })
}

fn choice(app: &App, select: &IngestFailureSelection, limit: i32, is_dry_run: bool) -> Result<Choice> {
    let many = u64::try_from(limit).ok().filter(|_| (1..=MOST).contains(&limit));
    let out_of_range = || Error::invalid("limit", "LIMIT_OUT_OF_RANGE", format!("it must lie between 1 and {MOST}"));
    let limit = many.ok_or_else(out_of_range)?;
    let filter = match select {
        IngestFailureSelection::Ids(ids) if ids.len() as u64 > MOST.unsigned_abs().into() => {
            return Err(Error::invalid("select.ids", "TOO_MANY_VALUES", format!("at most {MOST} identifiers")));
        }
        IngestFailureSelection::Ids(ids) => {
            Filter { ids: Some(decode_all(Kind::Failure, ids, "select.ids")?), ..Filter::default() }
        }
        IngestFailureSelection::Filter(filter) => IngestFailureFilter::read(Some(filter.clone()))?,
    };
    // Time is left to tell what was done.
    let patience = app.config.graphql.operation_timeout().mul_f64(0.6);
    Ok(Choice { filter, after: 0, limit, is_dry_run, patience: Some(patience) })
}

type Told = (Option<i32>, Vec<IngestFailureDecision>, Vec<UserError>);

fn told(decided: Result<Decided>, select: &IngestFailureSelection) -> Result<Told, Failure> {
    let (decided, mut user_errors) = outcome(decided, &["input"])?;
    let Some(decided) = decided else { return Ok((None, Vec::new(), user_errors)) };
    if let IngestFailureSelection::Ids(ids) = select {
        let asked = decode_all(Kind::Failure, ids, "select.ids")?;
        for (index, _) in asked.iter().enumerate().filter(|(_, id)| decided.missing.contains(id)) {
            let field = ["input", "select", "ids", &index.to_string()];
            user_errors.push(UserError::wrong_state("NOT_PARKED", "this message is not parked", &field));
        }
    }
    let results = decided.results.into_iter().map(|decision| {
        let (outcome, why) = match decision.became {
            Became::Untouched => (IngestFailureOutcome::Untouched, None),
            Became::Applied => (IngestFailureOutcome::Resolved, None),
            Became::Requeued => (IngestFailureOutcome::Requeued, None),
            Became::Parked(parked) => (IngestFailureOutcome::Parked, Some((parked.code, parked.why))),
            Became::Discarded => (IngestFailureOutcome::Discarded, None),
            Became::Failed(error) => {
                (IngestFailureOutcome::Failed, Some((error.reason(), format!("failed to {error}"))))
            }
            Became::Skipped => (IngestFailureOutcome::Skipped, None),
        };
        let (code, message) = why.map(|(code, message)| (code.to_owned(), message)).unzip();
        IngestFailureDecision { failure: IngestFailure(Arc::new(decision.failure)), outcome, code, message }
    });
    let matched = i32::try_from(decided.matched).unwrap_or(i32::MAX);
    Ok((Some(matched), results.collect(), user_errors))
}
