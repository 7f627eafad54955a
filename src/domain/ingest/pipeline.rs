//! The stages in a row, for a batch.

use std::time::Instant;

use metrics::histogram;
use tracing::{Instrument as _, info_span};

use super::{
    failure,
    parked::{Parked, Stage},
    s1_receive,
    s2_identify::{self, Identified},
    s3_attribute, s4_map, s5_dedupe, s6_route, s7_validate,
    s8_persist::{self, Effect},
    s9_notify, told,
};
use crate::{
    app::App,
    error::{Class, Error, Result},
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
/// known then. A message that the database refuses is parked at once: this is for those who cannot come back with it, a
/// program that waits for its answer and a file that is read. Whoever can [attempts](attempt) it first.
pub async fn submit(app: &App, messages: &[String]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    for (message, tried) in messages.iter().zip(attempt(app, messages).await?) {
        outcomes.push(match tried {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Parked(give_up(app, message, &error).await?),
        });
    }
    Ok(outcomes)
}

/// The same, but what the database refuses is left to the caller, who tries it again later or [gives it up](give_up). Such a
/// message is found by halving its batch until it is alone; the others are durable then.
pub async fn attempt(app: &App, messages: &[String]) -> Result<Vec<Result<Outcome>>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|message| {
            bytes += message.len();
            bytes <= BYTES
        });
        let (batch, later) = rest.split_at(fitting.count().max(1));
        let done = attempt_batch(app, batch).await?;
        told::outcomes(batch, &done);
        outcomes.extend(done);
        rest = later;
    }
    Ok(outcomes)
}

/// Parks a message that the database refused. What it said is for those who keep the list, and not among what is returned.
pub async fn give_up(app: &App, message: &String, error: &Error) -> Result<Parked> {
    failure::give_up(app, Stage::Persist, message, error).await?;
    let parked = Parked::at(Stage::Persist, error.reason(), "it could not be written, and was put aside");
    s9_notify::count(operation(app, message), &Effect::Parked(parked.clone()));
    Ok(parked)
}

async fn attempt_batch(app: &App, batch: &[String]) -> Result<Vec<Result<Outcome>>> {
    match run(app, batch).await {
        Ok(outcomes) => Ok(outcomes.into_iter().map(Ok).collect()),
        Err(error) if error.class() == Class::System => Err(error),
        Err(error) => isolate(app, batch, error).await,
    }
}

async fn isolate(app: &App, batch: &[String], error: Error) -> Result<Vec<Result<Outcome>>> {
    if let [message] = batch {
        s9_notify::count_refused(operation(app, message));
        return Ok(vec![Err(error)]);
    }
    let (first, second) = batch.split_at(batch.len() / 2);
    let mut outcomes = Box::pin(attempt_batch(app, first)).await?;
    outcomes.extend(Box::pin(attempt_batch(app, second)).await?);
    Ok(outcomes)
}

/// What a message asks for, as far as it can be read.
fn operation(app: &App, message: &str) -> &'static str {
    let received = s1_receive::receive(message, app.config.ingest.max_record_bytes);
    received.and_then(s2_identify::identify).map_or("unknown", |message| message.operation())
}

async fn run(app: &App, batch: &[String]) -> Result<Vec<Outcome>> {
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
