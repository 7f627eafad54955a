//! How many messages failed alike.

use async_graphql::{Context, SimpleObject};

use super::failure::{IngestFailureFilter, IngestFailureState, IngestStage};
use crate::{
    api::graphql::{context::Surroundings, error::Failure, scalars::DateTime},
    domain::ingest::{Stage, failure},
};

/// How many messages failed alike.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct IngestFailureCount {
    /// What became of them.
    state: IngestFailureState,
    /// Where they failed; null for a stage that this version of the gateway does not have.
    stage: Option<IngestStage>,
    /// Why they failed.
    code: String,
    /// How many.
    count: i32,
    /// When the latest of them failed.
    last_failed_at: DateTime,
}

pub(super) async fn of(
    ctx: &Context<'_>,
    filter: Option<IngestFailureFilter>,
) -> Result<Vec<IngestFailureCount>, Failure> {
    let filter = IngestFailureFilter::read(filter)?;
    let counts = failure::counts(ctx.app()?, ctx.actor(), &filter).await?;
    let told = counts.into_iter().map(|alike| IngestFailureCount {
        state: alike.state.into(),
        stage: Stage::of(&alike.stage).map(Into::into),
        code: alike.code,
        count: i32::try_from(alike.count).unwrap_or(i32::MAX),
        last_failed_at: alike.last_failed_at.into(),
    });
    Ok(told.collect())
}
