//! Takes messages from the queues through the pipeline, and decides by an error's class what becomes of a delivery. (A
//! message that spoils its batch is found by the pipeline itself.)

use std::{sync::Arc, time::Duration};

use metrics::{counter, histogram};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{Queues, pause};
use crate::{
    app::App,
    domain::ingest::{self, resync},
    error::{Class, Error, Result},
    infra::queue::{Delivery, Queue, Settlement},
    telemetry::Outage,
};

/// Repositories that are read again at once.
const RESYNCS: usize = 8;
/// Within this time a repository is read; it is shorter than the lease.
const RESYNC_TIME: Duration = Duration::from_mins(2);

/// Runs until the token is cancelled; what was taken by then is finished.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    let places = Arc::new(Semaphore::new(RESYNCS));
    let tasks = TaskTracker::new();
    tokio::join!(
        consume(&queues.records, &shutdown, || apply(&app, &queues.records)),
        consume(&queues.resyncs, &shutdown, || read_again(&app, &queues.resyncs, &places, &tasks)),
    );
    tasks.close();
    if tokio::time::timeout(app.config.http.shutdown_grace(), tasks.wait()).await.is_err() {
        debug!("repositories were still being read; they are read again after the next start");
    }
    Ok(())
}

/// Takes batches until the token is cancelled. While our own system is away it pauses, and goes on by itself.
async fn consume<F: Future<Output = Result<usize>>>(queue: &Queue, shutdown: &CancellationToken, take: impl Fn() -> F) {
    let topic = queue.topic().as_str();
    let mut failures = 0;
    let mut outage = Outage::default();
    while !shutdown.is_cancelled() {
        match take().await {
            Ok(took) => {
                if failures > 0 && outage.works() {
                    info!(topic, "processing goes on");
                }
                failures = 0;
                if took == 0 {
                    let _ = shutdown.run_until_cancelled(queue.wait()).await;
                }
            }
            Err(error) => {
                failures += 1;
                if outage.fails() {
                    warn!(topic, error = error.chain(), "processing pauses until what it needs is back");
                }
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(pause(failures))).await;
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
    Ok(count)
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
        tasks.spawn(async move {
            let outcome = match tokio::time::timeout(RESYNC_TIME, fetch_and_submit(&app, &request)).await {
                Ok(outcome) => outcome,
                Err(late) => Err(Error::upstream("pds", late)),
            };
            if let Err(error) = settle(&app, &queue, request, outcome).await {
                debug!(error = error.chain(), "a request to read a repository again was not settled; it comes again");
            }
            drop(place);
            queue.ring();
        });
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
                ("retried", Settlement::Retry(ladder(request.attempts)))
            }
            Class::Retryable | Class::Data => {
                ingest::failure::give_up(app, &request.body, &error).await?;
                ("parked", Settlement::Bury)
            }
            // The pause spares a database that is away.
            Class::System => ("released", Settlement::Retry(pause(7))),
        },
    };
    counter!("gateway_resyncs_total", "outcome" => outcome).increment(1);
    queue.settle(vec![(request, settlement)]).await
}
