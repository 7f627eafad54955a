//! The stages in a row, for a batch.

use std::time::Instant;

use metrics::histogram;
use tracing::{Instrument as _, info_span};

use super::{
    parked::{Parked, Stage, park},
    s1_receive,
    s2_identify::{self, Identified},
    s3_attribute, s4_map, s5_dedupe, s6_route, s7_validate,
    s8_persist::{self, Effect},
    s9_notify, told,
};
use crate::{
    app::App,
    error::{Class, Error, Result},
    infra::kv::Topic,
};

/// What became of a message. In each case it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The ledger or an account changed.
    Applied {
        /// Whether the record was not held, or only as deleted; decided where it was written.
        is_new: bool,
    },
    /// Already known, overtaken by a newer one, or of no interest here.
    Unchanged,
    /// Put aside for a person.
    Parked(Parked),
}

/// Bytes of the messages of one transaction. Each of them is held several times over on its way.
const BYTES: usize = 2 << 20;

/// Takes messages through the pipeline, in the given order, in one transaction unless they are very large.
///
/// Returns an outcome for each message. After an error they are all to be submitted again: those that were applied are
/// known then. A message that the database refuses is found by halving the batch and parked alone.
pub async fn submit(app: &App, messages: &[String]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|message| {
            bytes += message.len();
            bytes <= BYTES
        });
        let (batch, later) = rest.split_at(fitting.count().max(1));
        let done = submit_batch(app, batch).await?;
        told::outcomes(batch, &done);
        outcomes.extend(done);
        rest = later;
    }
    Ok(outcomes)
}

async fn submit_batch(app: &App, batch: &[String]) -> Result<Vec<Outcome>> {
    match attempt(app, batch).await {
        Err(error) if error.class() == Class::Retryable => isolate(app, batch, error).await,
        outcome => outcome,
    }
}

async fn isolate(app: &App, batch: &[String], error: Error) -> Result<Vec<Outcome>> {
    if let [message] = batch {
        let parked = Parked::at(Stage::Persist, error.reason(), error.chain());
        let refused = &[(message, &parked)];
        app.db.transact(|tx| async move { park(&*tx, app.clock.now(), refused).await }).await?;
        s9_notify::count("unknown", &Effect::Parked(parked.clone()));
        app.kv.bell(Topic::Failures).ring();
        return Ok(vec![Outcome::Parked(parked)]);
    }
    let (first, second) = batch.split_at(batch.len() / 2);
    let mut outcomes = Box::pin(submit_batch(app, first)).await?;
    outcomes.extend(Box::pin(submit_batch(app, second)).await?);
    Ok(outcomes)
}

async fn attempt(app: &App, batch: &[String]) -> Result<Vec<Outcome>> {
    let limit = app.config.ingest.max_record_bytes;
    let now = app.clock.now();
    let received: Vec<_> =
        timed(Stage::Receive, || batch.iter().map(|body| s1_receive::receive(body, limit)).collect());
    let identified = timed(Stage::Identify, || each(received, s2_identify::identify));
    let operations: Vec<&'static str> =
        identified.iter().map(|message| message.as_ref().map_or("unknown", Identified::operation)).collect();
    let attributed = timed(Stage::Attribute, || each(identified, s3_attribute::attribute));
    let mapped = timed(Stage::Map, || each(attributed, |message| s4_map::map(message, now)));
    let dedupe = s5_dedupe::dedupe(app.db.read(), &app.foresight, mapped).instrument(info_span!("batch.dedupe"));
    let deduped = waited(Stage::Dedupe, dedupe).await?;
    let routed = waited(Stage::Route, s6_route::route(app.db.read(), deduped, app.network)).await?;
    let validated = timed(Stage::Validate, || routed.into_iter().map(s7_validate::validate).collect());
    let persist = s8_persist::persist(app, batch, validated).instrument(info_span!("batch.persist"));
    let persisted = waited(Stage::Persist, persist).await?;
    app.foresight.learn(&persisted.novelties);
    let outcomes = persisted.effects.iter().map(outcome).collect();
    timed(Stage::Notify, || s9_notify::notify(app, persisted, &operations));
    Ok(outcomes)
}

/// Takes the messages that no earlier stage has refused through the next one.
fn each<A, B>(messages: Vec<Result<A, Parked>>, stage: impl Fn(A) -> Result<B, Parked>) -> Vec<Result<B, Parked>> {
    messages.into_iter().map(|message| message.and_then(&stage)).collect()
}

/// Measures what a stage takes for a whole batch.
fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    histogram!("gateway_ingest_stage_seconds", "stage" => stage.as_str()).record(begun.elapsed());
    done
}

async fn waited<T>(stage: Stage, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    histogram!("gateway_ingest_stage_seconds", "stage" => stage.as_str()).record(begun.elapsed());
    done
}

fn outcome(effect: &Effect) -> Outcome {
    match effect {
        Effect::Applied { is_new } => Outcome::Applied { is_new: *is_new },
        Effect::Unchanged => Outcome::Unchanged,
        Effect::Parked(parked) => Outcome::Parked(parked.clone()),
    }
}
