//! Takes messages from the queues through the pipeline, and decides by an error's class what becomes of a delivery. (A
//! message that spoils its batch is found by the pipeline itself.)

mod repositories;

use std::time::Duration;

use futures_util::future::join_all;
use metrics::{gauge, histogram};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field::Empty, info_span, warn};

use self::repositories::Repositories;
use super::{MEASURE, Queues, needs};
use crate::{
    app::App,
    domain::ingest,
    error::{Class, Error, Result},
    infra::{
        queue::{Delivery, Holding, Queue, RUNGS, Settlement},
        resilience::Recovery,
    },
    telemetry::caused,
};

/// Batches of records in the pipeline at once: while the database writes one, the next is read and understood, and the one
/// before is acknowledged. The queue hands out no two with messages of one account.
const BATCHES: usize = 2;
/// Runs until the token is cancelled; what was taken by then is finished.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    let repositories = Repositories::new(&app, &queues);
    let recovery = |what| Recovery::new(what, needs(&app, &queues));
    let batches = (0..BATCHES)
        .map(|_| consume(&queues.records, recovery("process messages"), &shutdown, || apply(&app, &queues.records)));
    tokio::join!(
        join_all(batches),
        consume(&queues.resyncs, recovery("read repositories again"), &shutdown, || { repositories.take(&shutdown) }),
        tell_held(&queues, &shutdown),
    );
    repositories.finish().await;
    Ok(())
}

/// Takes batches until the token is cancelled. While our own system is away it pauses, and goes on by itself.
async fn consume<F: Future<Output = Result<usize>>>(
    queue: &Queue,
    mut recovery: Recovery,
    shutdown: &CancellationToken,
    take: impl Fn() -> F,
) {
    while !shutdown.is_cancelled() {
        let wait = match take().await {
            Ok(took) => {
                recovery.works();
                if took > 0 {
                    continue;
                }
                shutdown.run_until_cancelled(queue.wait()).await
            }
            Err(error) => shutdown.run_until_cancelled(recovery.pause(&error)).await,
        };
        if wait.is_none() {
            return;
        }
    }
}

/// Tells how many messages are held here, and how old the oldest are, where only their consumers know.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
async fn tell_held(queues: &Queues, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(MEASURE)).await.is_some() {
        for queue in [&queues.records, &queues.resyncs] {
            let (topic, Holding { messages, oldest }) = (queue.topic().as_str(), queue.holding());
            gauge!("gateway_queue_held_messages", "topic" => topic).set(messages as f64);
            if let Some(age) = oldest {
                gauge!("gateway_queue_oldest_seconds", "topic" => topic).set(age.as_secs_f64());
            }
        }
    }
}

/// Takes one batch of records through the pipeline; returns how many there were.
async fn apply(app: &App, queue: &Queue) -> Result<usize> {
    let batch = queue.receive(app.config.ingest.batch_size as u64).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    let count = batch.len();
    let span = info_span!("batch.apply", trace_id = Empty, topic = queue.topic().as_str(), messages = count);
    let span = caused(span, batch.iter().filter_map(|delivery| delivery.cause.as_deref()));
    finish(app, queue, batch).instrument(span).await?;
    Ok(count)
}

async fn finish(app: &App, queue: &Queue, batch: Vec<Delivery>) -> Result<()> {
    let started = Instant::now();
    let bodies: Vec<String> = batch.iter().map(|delivery| delivery.body.clone()).collect();
    let mut outcome = Ok(());
    let settlements = match ingest::attempt(app, &bodies).await {
        Ok(tried) => {
            let mut settlements = Vec::with_capacity(batch.len());
            for (delivery, tried) in batch.into_iter().zip(tried) {
                let settlement = match tried {
                    Ok(_) => Settlement::Ack,
                    Err(error) => match refused(app, &delivery, &error).await {
                        Ok(settlement) => settlement,
                        Err(ours) => {
                            outcome = Err(ours);
                            Settlement::Release
                        }
                    },
                };
                settlements.push((delivery, settlement));
            }
            settlements
        }
        // What was applied of it is known when it comes again.
        Err(error) => {
            outcome = Err(error);
            batch.into_iter().map(|delivery| (delivery, Settlement::Release)).collect()
        }
    };
    let settled = queue.settle(settlements).await;
    outcome?;
    // Applied but not acknowledged: it comes again, and is known then.
    settled?;
    histogram!("gateway_ingest_batch_seconds").record(started.elapsed());
    Ok(())
}

/// What becomes of a message that the database refuses alone. It may be a mistake of ours that the next version has not, or
/// something that passes: so it is not put aside at once.
async fn refused(app: &App, delivery: &Delivery, error: &Error) -> Result<Settlement> {
    if error.class() == Class::Retryable && has_attempts_left(app, delivery) {
        let (did, attempts) = (&delivery.key, delivery.attempts);
        warn!(did, attempts, error = error.chain(), "failed to write a message; trying later");
        return Ok(Settlement::Retry(rung(delivery.attempts)));
    }
    ingest::give_up(app, &delivery.body, error).await?;
    Ok(Settlement::Ack)
}

fn has_attempts_left(app: &App, delivery: &Delivery) -> bool {
    delivery.attempts + 1 < app.config.ingest.max_attempts
}

/// The n-th pause of the ladder; the last one, where it has fewer.
fn rung(number: u32) -> Duration {
    let rung = usize::try_from(number).ok().and_then(|number| RUNGS.get(number));
    rung.or(RUNGS.last()).copied().unwrap_or_default()
}
