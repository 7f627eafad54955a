//! Takes messages from the queues through the pipeline, and decides by an error's class what becomes of a delivery. (A
//! message that spoils its batch is found by the pipeline itself.)

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use metrics::{counter, gauge, histogram};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, debug, field::Empty, info_span};

use super::{MEASURE, Queues, needs};
use crate::{
    app::App,
    domain::ingest::{self, resync},
    error::{Class, Error, Result},
    infra::{
        http::rest_of,
        queue::{Delivery, Queue, Settlement},
        resilience::Recovery,
    },
    telemetry::caused,
};

/// Batches of records in the pipeline at once: while the database writes one, the next is read and understood, and the one
/// before is acknowledged. The queue hands out no two with messages of one account.
const BATCHES: usize = 2;
/// Repositories that are read again at once.
const RESYNCS: usize = 8;
/// Within this time a repository is read; it is shorter than the lease.
const RESYNC_TIME: Duration = Duration::from_mins(2);

/// How long a repository waits when our own system failed while it was read.
const SPARE: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled; what was taken by then is finished.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    let places = Arc::new(Semaphore::new(RESYNCS));
    let tasks = TaskTracker::new();
    let recovery = |what| Recovery::new(what, needs(&app, &queues));
    let batches = (0..BATCHES)
        .map(|_| consume(&queues.records, recovery("process messages"), &shutdown, || apply(&app, &queues.records)));
    tokio::join!(
        join_all(batches),
        consume(&queues.resyncs, recovery("read repositories again"), &shutdown, || {
            read_again(&app, &queues.resyncs, &places, &tasks)
        }),
        tell_ages(&queues, &shutdown),
    );
    tasks.close();
    if tokio::time::timeout(app.config.http.shutdown_grace(), tasks.wait()).await.is_err() {
        debug!("repositories were still being read; they are read again after the next start");
    }
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

/// Tells how old the oldest messages are, where only their consumers know.
async fn tell_ages(queues: &Queues, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(MEASURE)).await.is_some() {
        for queue in [&queues.records, &queues.resyncs] {
            if let Some(age) = queue.oldest_held() {
                gauge!("gateway_queue_oldest_seconds", "topic" => queue.topic().as_str()).set(age.as_secs_f64());
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
    let outcome = ingest::submit(app, &bodies).await;
    // Where it failed, what was applied of it is known when it comes again.
    let settlement = if outcome.is_ok() { Settlement::Ack } else { Settlement::Release };
    let settled = queue.settle(batch.into_iter().map(|delivery| (delivery, settlement)).collect()).await;
    outcome?;
    // Applied but not acknowledged: it comes again, and is known then.
    settled?;
    histogram!("gateway_ingest_batch_seconds").record(started.elapsed());
    Ok(())
}

/// Starts to read as many repositories again as there are places; returns how many.
async fn read_again(app: &App, queue: &Queue, places: &Arc<Semaphore>, tasks: &TaskTracker) -> Result<usize> {
    let free = places.available_permits();
    if free == 0 {
        return Ok(0);
    }
    let requests = queue.receive(free as u64).await?;
    let count = requests.len();
    for request in requests {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { break };
        let (app, queue) = (app.clone(), queue.clone());
        let span = info_span!("repo.fetch", trace_id = Empty, did = request.key, attempts = request.attempts);
        let span = caused(span, request.cause.as_deref());
        let work = async move {
            let outcome = match tokio::time::timeout(RESYNC_TIME, fetch_and_submit(&app, &request)).await {
                Ok(outcome) => outcome,
                Err(late) => Err(Error::upstream("pds", late)),
            };
            if let Err(error) = settle(&app, &queue, request, outcome).await {
                debug!(error = error.chain(), "a request to read a repository again was not settled; it comes again");
            }
            drop(place);
            queue.ring();
        };
        tasks.spawn(work.instrument(span));
    }
    Ok(count)
}

async fn fetch_and_submit(app: &App, request: &Delivery) -> Result<()> {
    let lines = resync::fetch(app, &request.body).await?;
    for batch in lines.chunks(app.config.ingest.batch_size) {
        ingest::submit(app, batch).await?;
    }
    Ok(())
}

/// Pause after the n-th failure to read a repository: a host may be away for hours. 30 s, 2 min, 8 min, 32 min, then 2 h.
fn ladder(attempts: u32) -> Duration {
    Duration::from_secs(30 * 4_u64.pow(attempts.min(4)))
}

async fn settle(app: &App, queue: &Queue, request: Delivery, outcome: Result<()>) -> Result<()> {
    let (outcome, settlement) = match outcome {
        Ok(()) => ("done", Settlement::Ack),
        Err(error) => match error.class() {
            Class::Retryable if request.attempts + 1 < app.config.ingest.max_attempts => {
                debug!(did = request.key, error = error.chain(), "failed to read a repository again; trying later");
                // A host that asks for more time gets it.
                let pause = ladder(request.attempts).max(rest_of(&error).unwrap_or_default());
                ("retried", Settlement::Retry(pause))
            }
            Class::Retryable | Class::Data => {
                ingest::failure::give_up(app, &request.body, &error).await?;
                ("parked", Settlement::Ack)
            }
            // The pause spares a database that is away.
            Class::System => ("released", Settlement::Retry(SPARE)),
        },
    };
    counter!("gateway_resyncs_total", "outcome" => outcome).increment(1);
    queue.settle(vec![(request, settlement)]).await
}
