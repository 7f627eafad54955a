//! What happened to messages that were put aside, and what happens.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject, Subscription};
use futures_util::{Stream, StreamExt};

use super::failure::{IngestFailure, IngestFailureState, IngestStage};
use crate::{
    api::graphql::{
        context::Surroundings,
        directives::{AccessScope, access},
        error::{Failure, Fallible},
        id::{self, Kind},
        scalars::{DateTime, StreamCursor},
        sets::stored,
        transport::Turn,
    },
    domain::ingest::{
        Stage,
        failure::{self, Cursor, Entry, Watched},
    },
};

/// An attempt at a message that could not be applied, or a decision about it.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct IngestFailureEntry {
    /// What the message became: parked stands for another failed attempt, too.
    state: IngestFailureState,
    /// Where it had failed; null for a stage that this version of the gateway does not have.
    stage: Option<IngestStage>,
    /// Why it had failed, in upper snake case.
    code: String,
    /// Text for people: why it failed, or what was said about the decision.
    reason: String,
    /// Who decided: the prefix of a service key, or `operator`; null for what the pipeline did by itself.
    decided_by: Option<String>,
    /// When.
    at: DateTime,
}

impl IngestFailureEntry {
    /// What an entry of the log says.
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            state: entry.state.into(),
            stage: Stage::of(&entry.stage).map(Into::into),
            code: entry.code.clone(),
            reason: entry.reason.clone(),
            decided_by: entry.decided_by.clone(),
            at: entry.at.into(),
        }
    }
}

/// Something that happened to a message that could not be applied.
#[derive(Clone, Debug)]
pub(crate) struct IngestFailureChange(Arc<Entry>);

/// Something that happened to a message that could not be applied.
#[Object]
impl IngestFailureChange {
    /// Position in the stream; store it to resume.
    async fn cursor(&self) -> StreamCursor {
        StreamCursor(Cursor::of(&self.0).to_string())
    }

    /// What happened: an attempt, or a decision.
    async fn entry(&self) -> IngestFailureEntry {
        IngestFailureEntry::of(&self.0)
    }

    /// Identifier of the message.
    async fn failure_id(&self) -> ID {
        id::encode(Kind::Failure, self.0.failure_id)
    }

    /// The message as it is now; null once it was cleared away.
    async fn failure(&self, ctx: &Context<'_>) -> Fallible<IngestFailure> {
        let load = async { Ok::<_, Failure>(ctx.loaders()?.failure(self.0.failure_id).await?.map(IngestFailure::of)) };
        load.await.transpose()
    }
}

/// What a reader of the stream of failures wants to see; all given conditions must hold, lists match any member.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct IngestFailureChangeFilter {
    /// What the message became.
    state: Option<Vec<IngestFailureState>>,
    /// Where it had failed.
    stage: Option<Vec<IngestStage>>,
    /// Why it had failed.
    code: Option<Vec<String>>,
}

/// What happens to messages that could not be applied.
#[derive(Debug, Default)]
pub(crate) struct FailureSubscription;

/// What happens to messages that could not be applied.
#[Subscription]
impl FailureSubscription {
    /// Messages that are put aside, tried again, and given up; dead letters of the queues too. With `after` what was missed
    /// comes first and the live stream follows without a gap; fails with the reason `CURSOR_EXPIRED` when that is no longer
    /// kept. Needs a service key with the right to administer, and ends when that is revoked.
    #[graphql(directive = access::apply(vec![AccessScope::Admin]))]
    async fn ingest_failure_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<IngestFailureChangeFilter>,
        #[graphql(desc = "Resume after this cursor; live only when omitted.")] after: Option<StreamCursor>,
    ) -> Result<impl Stream<Item = Result<IngestFailureChange, Failure>>, Failure> {
        let (app, loaders) = (ctx.app()?, ctx.request_loaders()?);
        let watched = filter.map_or_else(Watched::default, |filter| Watched {
            states: stored(filter.state),
            stages: stored(filter.stage),
            codes: filter.code,
        });
        let after = after.map(|cursor| cursor.0.parse::<Cursor>()).transpose()?;
        let entries = failure::watch(app, ctx.actor(), watched, after).await?;
        Ok(Turn::pace(ctx.data_opt(), entries).map(|entry| {
            // What hangs on it is read anew for every delivery.
            loaders.renew();
            entry.map(|entry| IngestFailureChange(Arc::new(entry))).map_err(Failure::from)
        }))
    }
}
