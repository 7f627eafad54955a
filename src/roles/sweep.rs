//! The background: handles that are due, the end of the change log, figures that nobody else measures.

use std::time::Duration;

use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Queues, pause};
use crate::{
    app::App,
    domain::{account::lookup, change},
    error::Result,
};

/// How soon a new account is noticed.
const LOOK: Duration = Duration::from_millis(500);
/// Between two cuts of the change log.
const CUT: Duration = Duration::from_mins(10);
/// Between two measurements.
const MEASURE: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    tokio::join!(
        repeat(&shutdown, "look up identities", || look_up(&app)),
        repeat(&shutdown, "cut the change log", || cut(&app)),
        repeat(&shutdown, "measure the queues", || measure(&queues)),
    );
    Ok(())
}

/// Runs `work` again and again, after the pause it asks for; a failure is logged once and waited out.
async fn repeat<F: Future<Output = Result<Duration>>>(
    shutdown: &CancellationToken,
    what: &'static str,
    work: impl Fn() -> F,
) {
    let mut failures = 0;
    loop {
        let Some(outcome) = shutdown.run_until_cancelled(work()).await else { return };
        let rest = match outcome {
            Ok(rest) => {
                failures = 0;
                rest
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
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

async fn cut(app: &App) -> Result<Duration> {
    let keep = app.config.ingest.retention();
    let now = app.clock.now();
    let cut = app.db.transact(|tx| async move { change::cut(&*tx, app.tenant, now, keep).await }).await?;
    Ok(if cut > 0 { Duration::ZERO } else { CUT })
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
async fn measure(queues: &Queues) -> Result<Duration> {
    for queue in [&queues.records, &queues.resyncs] {
        let depth = queue.depth().await?;
        let topic = queue.topic().as_str();
        gauge!("gateway_queue_messages", "topic" => topic).set(depth.messages as f64);
        gauge!("gateway_queue_oldest_seconds", "topic" => topic).set(depth.oldest.as_secs_f64());
    }
    Ok(MEASURE)
}
