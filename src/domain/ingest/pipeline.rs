//! The stages in a row, for a batch.

use super::{
    parked::{Parked, Stage, park},
    s1_receive, s2_identify, s3_attribute, s4_map, s5_dedupe, s6_route, s7_validate,
    s8_persist::{self, Effect},
    s9_notify,
};
use crate::{
    app::App,
    error::{Class, Error, Result},
};

/// What became of a message. In each case it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The ledger or an account changed.
    Applied,
    /// Already known, overtaken by a newer one, or of no interest here.
    Unchanged,
    /// Put aside for a person.
    Parked(Parked),
}

/// Takes a batch through the pipeline, in the given order, in one transaction.
///
/// Returns an outcome for each message. An error means that none of them was applied and that they are to be submitted
/// again; a message that the database refuses is found by halving the batch and parked alone.
pub async fn submit(app: &App, batch: &[String]) -> Result<Vec<Outcome>> {
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
        return Ok(vec![Outcome::Parked(parked)]);
    }
    let (first, second) = batch.split_at(batch.len() / 2);
    let mut outcomes = Box::pin(submit(app, first)).await?;
    outcomes.extend(Box::pin(submit(app, second)).await?);
    Ok(outcomes)
}

async fn attempt(app: &App, batch: &[String]) -> Result<Vec<Outcome>> {
    let limit = app.config.ingest.max_record_bytes;
    let now = app.clock.now();
    let mapped = batch.iter().map(|body| {
        let received = s1_receive::receive(body, limit)?;
        let identified = s2_identify::identify(received)?;
        let attributed = s3_attribute::attribute(identified)?;
        s4_map::map(attributed, now)
    });
    let deduped = s5_dedupe::dedupe(app.db.read(), mapped.collect()).await?;
    let routed = s6_route::route(deduped, app.tenant);
    let validated = s7_validate::validate(routed, now);
    let persisted = s8_persist::persist(app, batch, validated).await?;
    let outcomes = persisted.effects.iter().map(outcome).collect();
    s9_notify::notify(app, persisted);
    Ok(outcomes)
}

fn outcome(effect: &Effect) -> Outcome {
    match effect {
        Effect::Applied => Outcome::Applied,
        Effect::Unchanged => Outcome::Unchanged,
        Effect::Parked(parked) => Outcome::Parked(parked.clone()),
    }
}
