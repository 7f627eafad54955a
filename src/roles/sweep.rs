//! The background: handles that are due, the old ends of the change log and the failure list, dead letters, figures that
//! nobody else measures.

use std::time::Duration;

use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::{MEASURE, Queues, needs, tell_leader};
use crate::{
    app::App,
    domain::{
        account::lookup,
        change,
        ingest::{cursor, failure},
        profile, session,
        tenant::Tenant,
    },
    error::Result,
    infra::{kv::Fence, queue::Topic, resilience::Recovery},
};

/// How long one process leads the sweeps without being heard of. Should it die, another one takes over after this time.
const TERM: Duration = Duration::from_secs(10);
/// How soon a new account is noticed.
const LOOK: Duration = Duration::from_millis(500);
/// Between two cuts of the change log and the failure list.
const CUT: Duration = Duration::from_mins(10);
/// Between two looks for dead letters.
const COLLECT: Duration = Duration::from_secs(5);
/// Between two searches for what has expired.
const EXPIRE: Duration = Duration::from_mins(1);

/// Runs until the token is cancelled.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    let recovery = |what| Recovery::new(what, [app.db.circuit().clone()]);
    tokio::join!(
        lead(&app, &queues, &shutdown),
        // These any number of processes may do at once: whoever takes an account keeps the others away from it.
        repeat(&shutdown, recovery("look up identities"), || look_up(&app)),
        repeat(&shutdown, Recovery::new("measure the queues", needs(&app, &queues)), || measure(&queues)),
        repeat(&shutdown, recovery("measure what waits"), || measure_tables(&app)),
    );
    Ok(())
}

/// Does what one process does for all, for as long as it is this one.
async fn lead(app: &App, queues: &Queues, shutdown: &CancellationToken) {
    let recovery = |what| Recovery::new(what, [app.db.circuit().clone()]);
    tell_leader("sweep", false);
    let mut choice = Recovery::new("choose who leads the sweeps", app.kv.circuit().cloned());
    while !shutdown.is_cancelled() {
        let lock = match app.kv.lock("sweep", TERM).await {
            Ok(lock) => lock,
            Err(error) => {
                let _ = shutdown.run_until_cancelled(choice.pause(&error)).await;
                continue;
            }
        };
        choice.works();
        if let Some(lock) = lock {
            let fence = &lock.fence();
            // All of it ends at the shutdown, and the lock is then let go.
            let sweeps = async {
                tokio::join!(
                    repeat(shutdown, recovery("cut the change log"), || cut(app, fence)),
                    repeat(shutdown, recovery("clear the failure list and the sessions"), || clear(app, fence)),
                    repeat(shutdown, Recovery::new("collect dead letters", needs(app, queues)), || {
                        collect(app, queues, fence)
                    }),
                    repeat(shutdown, recovery("delete what has expired"), || expire(app)),
                );
            };
            tell_leader("sweep", true);
            lock.during(Box::pin(sweeps)).await;
            tell_leader("sweep", false);
        }
        let _ = shutdown.run_until_cancelled(tokio::time::sleep(TERM / 3)).await;
    }
}

/// Runs `work` again and again, after the pause it asks for; a failure is logged and waited out.
async fn repeat<F: Future<Output = Result<Duration>>>(
    shutdown: &CancellationToken,
    mut recovery: Recovery,
    work: impl Fn() -> F,
) {
    loop {
        let Some(outcome) = shutdown.run_until_cancelled(work()).await else { return };
        let wait = match outcome {
            Ok(rest) => {
                recovery.works();
                shutdown.run_until_cancelled(tokio::time::sleep(rest)).await
            }
            Err(error) => shutdown.run_until_cancelled(recovery.pause(&error)).await,
        };
        if wait.is_none() {
            return;
        }
    }
}

async fn look_up(app: &App) -> Result<Duration> {
    if let Some(rest) = app.directory.rest() {
        // Everybody would only be put off.
        return Ok(rest.min(TERM));
    }
    let dids = lookup::refresh(app).await?;
    if !dids.is_empty() {
        profile::follow(app, &dids).await?;
        return Ok(Duration::ZERO);
    }
    Ok(lookup::next_due(app).await?.map_or(LOOK, |due| due.min(LOOK)))
}

async fn cut(app: &App, fence: &Fence) -> Result<Duration> {
    let keep = app.config.ingest.retention();
    let now = app.clock.now();
    let mut cut = 0;
    for tenant in Tenant::all(app.db.read()).await? {
        cut += app
            .db
            .transact(|tx| async move {
                fence.admit(&*tx).await?;
                change::cut(&*tx, tenant, now, keep).await
            })
            .await?;
    }
    Ok(if cut > 0 { Duration::ZERO } else { CUT })
}

async fn clear(app: &App, fence: &Fence) -> Result<Duration> {
    let keep = app.config.ingest.failure_retention();
    let now = app.clock.now();
    let cleared = app
        .db
        .transact(|tx| async move {
            fence.admit(&*tx).await?;
            session::clear(&*tx, now).await?;
            failure::clear(&*tx, now, keep).await
        })
        .await?;
    Ok(if cleared > 0 { Duration::ZERO } else { CUT })
}

async fn collect(app: &App, queues: &Queues, fence: &Fence) -> Result<Duration> {
    let mut count = 0;
    for topic in Topic::ALL {
        count += failure::collect(app, queues.of(topic), fence).await?;
    }
    Ok(if count > 0 { Duration::ZERO } else { COLLECT })
}

async fn expire(app: &App) -> Result<Duration> {
    Ok(if app.kv.sweep().await? > 0 { Duration::ZERO } else { EXPIRE })
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
async fn measure(queues: &Queues) -> Result<Duration> {
    for queue in [&queues.records, &queues.resyncs] {
        let depth = queue.depth().await?;
        let topic = queue.topic().as_str();
        // Those who hold some tell of them; they are added up where the figures are looked at.
        gauge!("gateway_queue_messages", "topic" => topic).set((depth.messages - depth.held) as f64);
        // Of RabbitMQ only those who consume know.
        if let Some(oldest) = depth.oldest {
            gauge!("gateway_queue_oldest_seconds", "topic" => topic).set(oldest.as_secs_f64());
        }
        gauge!("gateway_queue_dead_letters", "topic" => topic).set(depth.dead as f64);
    }
    Ok(MEASURE)
}

/// What the tables tell of other roles, which may be away.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
async fn measure_tables(app: &App) -> Result<Duration> {
    gauge!("gateway_parked_messages").set(failure::backlog(app).await? as f64);
    gauge!("gateway_sessions").set(session::count_open(app).await? as f64);
    // Where no stream is followed, no cursor grows old.
    if !app.config.streams.endpoints.is_empty()
        && let Some(moved) = cursor::moved_at(app.db.read()).await?
    {
        let age = (app.clock.now() - moved).to_std().unwrap_or_default();
        gauge!("gateway_stream_cursor_age_seconds").set(age.as_secs_f64());
    }
    Ok(MEASURE)
}
