//! The background: handles that are due, the old ends of the change log and the failure list, figures that nobody else
//! measures.

use std::time::Duration;

use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Queues, pause};
use crate::{
    app::App,
    domain::{account::lookup, change, ingest::failure},
    error::Result,
    infra::kv::Fence,
    telemetry::Outage,
};

/// How long one process leads the sweeps without being heard of. Should it die, another one takes over after this time.
const TERM: Duration = Duration::from_secs(10);
/// How soon a new account is noticed.
const LOOK: Duration = Duration::from_millis(500);
/// Between two cuts of the change log and the failure list.
const CUT: Duration = Duration::from_mins(10);
/// Between two searches for what has expired.
const EXPIRE: Duration = Duration::from_mins(1);
/// Between two measurements.
const MEASURE: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    tokio::join!(
        lead(&app, &shutdown),
        // These any number of processes may do at once: whoever takes an account keeps the others away from it.
        repeat(&shutdown, "look up identities", || look_up(&app)),
        repeat(&shutdown, "measure the queues", || measure(&queues)),
    );
    Ok(())
}

/// Does what one process does for all, for as long as it is this one.
async fn lead(app: &App, shutdown: &CancellationToken) {
    let mut outage = Outage::default();
    while !shutdown.is_cancelled() {
        let lock = app.kv.lock("sweep", TERM).await;
        match &lock {
            Ok(_) if outage.works() => info!("again able to choose who leads the sweeps"),
            Err(error) if outage.fails() => {
                warn!(error = error.chain(), "failed to choose who leads the sweeps; they wait");
            }
            _ => {}
        }
        if let Ok(Some(lock)) = lock {
            let fence = &lock.fence();
            // All of it ends at the shutdown, and the lock is then let go.
            let sweeps = async {
                tokio::join!(
                    repeat(shutdown, "cut the change log", || cut(app, fence)),
                    repeat(shutdown, "clear the failure list", || clear(app)),
                    repeat(shutdown, "delete what has expired", || expire(app)),
                );
            };
            lock.during(Box::pin(sweeps)).await;
        }
        let _ = shutdown.run_until_cancelled(tokio::time::sleep(TERM / 3)).await;
    }
}

/// Runs `work` again and again, after the pause it asks for; a failure is logged and waited out.
async fn repeat<F: Future<Output = Result<Duration>>>(
    shutdown: &CancellationToken,
    what: &'static str,
    work: impl Fn() -> F,
) {
    let mut failures = 0;
    let mut outage = Outage::default();
    loop {
        let Some(outcome) = shutdown.run_until_cancelled(work()).await else { return };
        let rest = match outcome {
            Ok(rest) => {
                failures = 0;
                if outage.works() {
                    info!("again able to {what}");
                }
                rest
            }
            Err(error) => {
                failures += 1;
                if outage.fails() {
                    warn!(error = error.chain(), "failed to {what}; trying again");
                }
                pause(failures)
            }
        };
        if shutdown.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            return;
        }
    }
}

async fn look_up(app: &App) -> Result<Duration> {
    if lookup::refresh(app).await? > 0 {
        return Ok(Duration::ZERO);
    }
    Ok(lookup::next_due(app).await?.map_or(LOOK, |due| due.min(LOOK)))
}

async fn cut(app: &App, fence: &Fence) -> Result<Duration> {
    let keep = app.config.ingest.retention();
    let now = app.clock.now();
    let cut = app
        .db
        .transact(|tx| async move {
            fence.admit(&*tx).await?;
            change::cut(&*tx, app.tenant, now, keep).await
        })
        .await?;
    Ok(if cut > 0 { Duration::ZERO } else { CUT })
}

async fn clear(app: &App) -> Result<Duration> {
    let keep = app.config.ingest.failure_retention();
    let now = app.clock.now();
    let cleared = app.db.transact(|tx| async move { failure::clear(&*tx, now, keep).await }).await?;
    Ok(if cleared > 0 { Duration::ZERO } else { CUT })
}

async fn expire(app: &App) -> Result<Duration> {
    Ok(if app.kv.sweep().await? > 0 { Duration::ZERO } else { EXPIRE })
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
async fn measure(queues: &Queues) -> Result<Duration> {
    for queue in [&queues.records, &queues.resyncs] {
        let depth = queue.depth().await?;
        let topic = queue.topic().as_str();
        gauge!("gateway_queue_messages", "topic" => topic).set(depth.messages as f64);
        gauge!("gateway_queue_oldest_seconds", "topic" => topic).set(depth.oldest.as_secs_f64());
        gauge!("gateway_queue_dead_letters", "topic" => topic).set(depth.dead as f64);
    }
    Ok(MEASURE)
}
