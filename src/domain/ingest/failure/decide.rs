//! Deciding about parked messages: to try them again, or to give them up.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use entities::{ingest_failure as failure, ingest_failure_log as log, sets::FailureState};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{
    Filter, LOCK, Model,
    query::{self, without_payload},
};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        ingest::{
            parked::{Parked, Stage, payload_hash},
            pipeline::{Outcome, submit},
            resync,
        },
    },
    error::{Class, Error, Result},
    infra::{
        db::{among, insert, lock},
        kv::Topic,
        queue::{self, Message},
    },
};

/// Most messages that one call decides about.
pub const MOST: u64 = 500;
/// Longest text about a decision.
const WHY_CHARS: usize = 500;
/// Messages whose payloads are held at once.
const TOGETHER: usize = 20;

/// Which parked messages are meant.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Conditions on those that are parked; what it says of states does not matter.
    pub filter: Filter,
    /// Only those behind this one, by id; 0 for all.
    pub after: i64,
    /// At most so many, those parked first before others; never more than [`MOST`].
    pub limit: u64,
    /// Only tell which ones.
    pub is_dry_run: bool,
    /// Begin nothing after this time; none for as long as it takes.
    pub patience: Option<Duration>,
}

/// What was decided.
#[derive(Debug)]
pub struct Decided {
    /// How many were parked and matched, also beyond the limit: exact up to 10,000.
    pub matched: u64,
    /// What became of each.
    pub results: Vec<Decision>,
    /// Those that were asked for by id and are not parked, or not at all.
    pub missing: Vec<i64>,
}

/// What became of one message.
#[derive(Debug)]
pub struct Decision {
    /// The message as it is now, without its payload.
    pub failure: Model,
    /// What became of it.
    pub became: Became,
}

/// What became of a message.
#[derive(Debug)]
pub enum Became {
    /// Nothing: it was only looked at.
    Untouched,
    /// Applied, or overtaken by now: resolved.
    Applied,
    /// A dead letter that was put back into its queue, where its consumers find it: resolved, unless it dies again.
    Requeued,
    /// Parked again, for this reason.
    Parked(Parked),
    /// Given up.
    Discarded,
    /// It could not be tried, and waits as before.
    Failed(Error),
    /// There was no time left for it; it waits as before.
    Skipped,
}

/// Sends parked messages through the pipeline again, and dead letters through their queue. A message leaves the list when
/// it is applied or overtaken by now.
///
/// Of one message fails what concerns it alone: `PAYLOAD_CUT` for one that was too large to be kept as a whole, and errors of
/// the network for one that asks for a repository to be read. When our own system is away the call fails; what was done by
/// then stays done.
pub async fn retry(app: &App, actor: &Actor, choice: &Choice) -> Result<Decided> {
    let mut decided = choose(app, actor, choice).await?;
    if choice.is_dry_run {
        return Ok(decided);
    }
    let end = choice.patience.and_then(|patience| Instant::now().checked_add(patience));
    for chunk in decided.results.chunks_mut(TOGETHER) {
        if end.is_some_and(|end| Instant::now() >= end) {
            for decision in chunk {
                decision.became = Became::Skipped;
            }
            continue;
        }
        again(app, actor, chunk, end).await?;
    }
    note(actor, "retried", &decided);
    refresh(app, &mut decided).await?;
    Ok(decided)
}

/// Gives parked messages up, with what a person says about it, in at most 500 characters (`REASON_TOO_LONG`). The rows stay until they are [cleared](super::clear), so that
/// the same messages do not come back.
pub async fn discard(app: &App, actor: &Actor, choice: &Choice, why: &str) -> Result<Decided> {
    let mut decided = choose(app, actor, choice).await?;
    if why.chars().count() > WHY_CHARS {
        return Err(Error::invalid("reason", "REASON_TOO_LONG", format!("at most {WHY_CHARS} characters")));
    }
    if choice.is_dry_run {
        return Ok(decided);
    }
    let ids = decided.results.iter().map(|decision| decision.failure.id).collect();
    close(app, actor, (ids, None), FailureState::Discarded, why).await?;
    for decision in &mut decided.results {
        decision.became = Became::Discarded;
    }
    note(actor, "discarded", &decided);
    refresh(app, &mut decided).await?;
    Ok(decided)
}

fn note(actor: &Actor, what: &'static str, decided: &Decided) {
    info!(by = actor.name(), what, count = decided.results.len(), "parked messages were decided about");
}

/// Shows the messages as they are now.
async fn refresh(app: &App, decided: &mut Decided) -> Result<()> {
    let ids = decided.results.iter().map(|decision| decision.failure.id).collect();
    let mut now = query::by_ids(app.db.read(), ids).await?;
    for decision in &mut decided.results {
        if let Some(failure) = now.remove(&decision.failure.id) {
            decision.failure = Arc::unwrap_or_clone(failure);
        }
    }
    Ok(())
}

async fn choose(app: &App, actor: &Actor, choice: &Choice) -> Result<Decided> {
    actor.administers(app.network)?;
    let filter = Filter { states: Filter::parked().states, ..choice.filter.clone() };
    let behind = filter.select(app.db.backend()).filter(failure::Column::Id.gt(choice.after));
    let select = without_payload(behind).order_by_asc(failure::Column::Id);
    let chosen = select.limit(choice.limit.min(MOST)).all(app.db.read()).await?;
    let mut missing: BTreeSet<i64> = filter.ids.iter().flatten().copied().collect();
    if !missing.is_empty() {
        // Not only of those within the limit.
        let there = filter.select(app.db.backend()).select_only().column(failure::Column::Id);
        for id in there.into_tuple::<i64>().all(app.db.read()).await? {
            missing.remove(&id);
        }
    }
    let results = chosen.into_iter().map(|failure| Decision { failure, became: Became::Untouched });
    Ok(Decided {
        matched: query::count(app, actor, &filter).await?,
        results: results.collect(),
        missing: missing.into_iter().collect(),
    })
}

async fn again(app: &App, actor: &Actor, chunk: &mut [Decision], end: Option<Instant>) -> Result<()> {
    let backend = app.db.backend();
    let ids = chunk.iter().map(|decision| decision.failure.id).collect();
    let wanted = among(backend, failure::Column::Id, ids);
    let mut payloads = HashMap::new();
    for row in failure::Entity::find().filter(wanted).all(app.db.read()).await? {
        payloads.insert(row.id, row.payload);
    }
    // Those that the pipeline takes as they are, together.
    let mut batch: Vec<(&mut Decision, String)> = Vec::new();
    let mut applied = Vec::new();
    for decision in chunk {
        let Some(payload) = payloads.remove(&decision.failure.id) else {
            decision.became = Became::Skipped;
            continue;
        };
        if payload_hash(&payload) != decision.failure.payload_hash {
            let why = "the message was too large to be kept as a whole";
            decision.became = Became::Failed(Error::invalid("payload", "PAYLOAD_CUT", why));
        } else if decision.failure.stage == Stage::Queue.as_str() {
            decision.became = requeue(app, &decision.failure, payload).await?;
            // Before anything else can fail: it is in its queue already. Unless it has died again meanwhile.
            let once = Some(decision.failure.attempts);
            let why = "put back into its queue";
            close(app, actor, (vec![decision.failure.id], once), FailureState::Resolved, why).await?;
        } else if resync::is_request(&payload) {
            decision.became = read_again(app, &payload, end).await?;
            if matches!(decision.became, Became::Applied) {
                resolve(app, actor, vec![decision.failure.id]).await?;
            }
        } else {
            batch.push((decision, payload));
        }
    }
    let (decisions, messages): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    for (decision, outcome) in decisions.into_iter().zip(submit(app, &messages).await?) {
        decision.became = match outcome {
            Outcome::Parked(parked) => Became::Parked(parked),
            Outcome::Applied { .. } | Outcome::Unchanged => {
                applied.push(decision.failure.id);
                Became::Applied
            }
        };
    }
    resolve(app, actor, applied).await
}

/// Ends the waiting of messages that are applied, also if others have failed at them meanwhile.
async fn resolve(app: &App, actor: &Actor, ids: Vec<i64>) -> Result<()> {
    close(app, actor, (ids, None), FailureState::Resolved, "applied, or overtaken by now").await
}

/// Puts a dead letter back. Whoever it killed is not this process then: the queue counts what its consumers die of.
async fn requeue(app: &App, failure: &Model, body: String) -> Result<Became> {
    let topic = if resync::is_request(&body) { queue::Topic::Resyncs } else { queue::Topic::Records };
    let key = failure.did.clone().unwrap_or_default();
    app.queues().await?.of(topic).publish(&[Message { key, body }]).await?;
    Ok(Became::Requeued)
}

async fn read_again(app: &App, request: &str, end: Option<Instant>) -> Result<Became> {
    let fetched = match end {
        None => resync::fetch(app, request).await,
        Some(end) => match timeout_at(end, resync::fetch(app, request)).await {
            Ok(fetched) => fetched,
            Err(_) => return Ok(Became::Skipped),
        },
    };
    match fetched {
        Ok(lines) => {
            submit(app, &lines).await?;
            Ok(Became::Applied)
        }
        Err(error) if error.class() == Class::System => Err(error),
        Err(error) => Ok(Became::Failed(error)),
    }
}

/// Ends the waiting of messages that are parked still; where a number of attempts is given, only of those that have failed no
/// more often.
async fn close(
    app: &App,
    actor: &Actor,
    (ids, attempts): (Vec<i64>, Option<i32>),
    state: FailureState,
    why: &str,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = &ids;
    app.db
        .transact(|tx| async move {
            // Whoever parks one takes it as well: none fails between the look and the end.
            lock(&*tx, &LOCK).await?;
            let now = app.clock.now();
            let parked = Filter { ids: Some(ids.clone()), ..Filter::parked() };
            let mut rows = without_payload(parked.select(app.db.backend())).all(&*tx).await?;
            rows.retain(|row| attempts.is_none_or(|attempts| row.attempts == attempts));
            let these = rows.iter().map(|row| row.id).collect();
            failure::Entity::update_many()
                .col_expr(failure::Column::State, Expr::value(state.as_str()))
                .col_expr(failure::Column::ResolvedAt, Expr::value(now))
                .filter(among(tx.get_database_backend(), failure::Column::Id, these))
                .exec(&*tx)
                .await?;
            let entry = |row: Model| log::ActiveModel {
                id: NotSet,
                failure_id: Set(row.id),
                state: Set(state),
                stage: Set(row.stage),
                code: Set(row.code),
                reason: Set(why.to_owned()),
                decided_by: Set(Some(actor.name().to_owned())),
                at: Set(now),
            };
            insert(&*tx, rows.into_iter().map(entry).collect(), None).await?;
            Ok(())
        })
        .await?;
    app.kv.bell(Topic::Failures).ring();
    Ok(())
}
