//! Takes messages from the queue through the pipeline. The only place that decides by an error's class.

use std::sync::Arc;

use metrics::{counter, histogram};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::pause;
use crate::{
    app::App,
    domain::ingest::{self, resync},
    error::{Class, Error, Result},
    infra::queue::{Delivery, Queue, Settlement},
};

/// Repositories that are read again at once.
const RESYNCS: usize = 8;
/// Within this time a repository is read; then the message comes again.
const RESYNC_TIME: std::time::Duration = std::time::Duration::from_secs(120);

/// Runs until the token is cancelled; what was taken by then is finished.
pub async fn run(app: App, queue: Queue, shutdown: CancellationToken) -> Result<()> {
    let resyncs = Resyncs { tasks: TaskTracker::new(), places: Arc::new(Semaphore::new(RESYNCS)) };
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        match step(&app, &queue, &resyncs).await {
            Ok(took) => {
                if failures > 0 {
                    info!("processing goes on");
                }
                failures = 0;
                if took == 0 {
                    let _ = shutdown.run_until_cancelled(queue.wait()).await;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(error = error.chain(), "processing pauses until the database is back");
                }
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(pause(failures))).await;
            }
        }
    }
    resyncs.tasks.close();
    let _ = tokio::time::timeout(app.config.http.shutdown_grace(), resyncs.tasks.wait()).await;
    Ok(())
}

/// Takes one batch; returns how many messages it had.
async fn step(app: &App, queue: &Queue, resyncs: &Resyncs) -> Result<usize> {
    let batch = queue.receive(app.config.ingest.batch_size as u64).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    let count = batch.len();
    let started = Instant::now();
    let (requests, messages): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|delivery| resync::is_request(&delivery.body));
    for request in requests {
        resyncs.start(app.clone(), queue.clone(), request).await?;
    }
    if messages.is_empty() {
        return Ok(count);
    }
    let bodies: Vec<String> = messages.iter().map(|delivery| delivery.body.clone()).collect();
    match ingest::submit(app, &bodies).await {
        Ok(_) => {
            queue.settle(messages.into_iter().map(|delivery| (delivery, Settlement::Ack)).collect()).await?;
            histogram!("gateway_ingest_batch_seconds").record(started.elapsed());
            Ok(count)
        }
        Err(error) => {
            // None of it was applied. When the database is away this fails too, and the leases end by themselves.
            let released = messages.into_iter().map(|delivery| (delivery, Settlement::Release)).collect();
            if let Err(also) = queue.settle(released).await {
                debug!(error = also.chain(), "messages could not be given back");
            }
            Err(error)
        }
    }
}

/// Reading repositories again happens beside the queue: it waits for hosts of the network, and nothing may wait for it.
struct Resyncs {
    tasks: TaskTracker,
    places: Arc<Semaphore>,
}

impl Resyncs {
    async fn start(&self, app: App, queue: Queue, request: Delivery) -> Result<()> {
        // Away from the queue's lease, for as long as it may take; should this process die, it comes again.
        queue.settle(vec![(request.clone(), Settlement::Retry(RESYNC_TIME * 2))]).await?;
        let places = Arc::clone(&self.places);
        self.tasks.spawn(async move {
            let Ok(_place) = places.acquire_owned().await else { return };
            let outcome = match tokio::time::timeout(RESYNC_TIME, fetch_and_submit(&app, &request)).await {
                Ok(outcome) => outcome,
                Err(late) => Err(Error::upstream("pds", late)),
            };
            if let Err(error) = settle(&app, &queue, request, outcome).await {
                debug!(error = error.chain(), "a request to read a repository again was not settled; it comes again");
            }
        });
        Ok(())
    }
}

async fn fetch_and_submit(app: &App, request: &Delivery) -> Result<()> {
    let lines = resync::fetch(app, &request.body).await?;
    for batch in lines.chunks(app.config.ingest.batch_size) {
        ingest::submit(app, batch).await?;
    }
    Ok(())
}

async fn settle(app: &App, queue: &Queue, request: Delivery, outcome: Result<()>) -> Result<()> {
    let settlement = match outcome {
        Ok(()) => {
            counter!("gateway_resyncs_total", "outcome" => "done").increment(1);
            Settlement::Ack
        }
        Err(error) => match error.class() {
            Class::Retryable if request.attempts + 1 < app.config.ingest.max_attempts => {
                debug!(
                    did = request.key,
                    error = error.chain(),
                    "reading a repository again failed; it is tried again"
                );
                counter!("gateway_resyncs_total", "outcome" => "retried").increment(1);
                Settlement::Retry(pause(request.attempts + 5))
            }
            Class::Retryable | Class::Data => {
                counter!("gateway_resyncs_total", "outcome" => "parked").increment(1);
                ingest::failure::give_up(app, &request.body, &error).await?;
                Settlement::Ack
            }
            Class::System => Settlement::Release,
        },
    };
    queue.settle(vec![(request, settlement)]).await
}
