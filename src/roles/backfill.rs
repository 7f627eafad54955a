//! The first start: streams only tell what happens from now on, so a relay is asked which repositories hold calendar
//! records, and each of them is read once; and again after a gap, in which somebody new may have begun to write.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::{Queues, tell_leader};
use crate::{
    app::App,
    domain::{
        account::identity,
        ingest::{accepts, cursor, line},
        source::COLLECTIONS,
    },
    error::Result,
    infra::{
        atproto::{relay::repos_with, syntax::Nsid},
        http::rest_of,
        kv::Fence,
        queue::Message,
        resilience::pause,
    },
};

/// How long a stream is waited for. Repositories are read behind a stream that is already followed, so that nothing is
/// written between the two; but better a little may be missing than everything.
const CONNECTION: Duration = Duration::from_secs(30);

/// How long the lock outlives a process that died while it listed repositories.
const TERM: Duration = Duration::from_secs(15);

/// Pages of a relay's answer that are read; a relay that never ends its list is not believed.
const PAGES: usize = 1_000;

/// Has every repository read at the first start and after each gap; tries until the relay answers. Runs until the token is
/// cancelled.
pub(super) async fn run(
    app: &App,
    queues: &Queues,
    (connected, gap): (&Notify, &Notify),
    shutdown: &CancellationToken,
) {
    let Some(relay) = &app.config.streams.backfill else { return };
    let wait = tokio::time::timeout(CONNECTION, connected.notified());
    match shutdown.run_until_cancelled(wait).await {
        None => return,
        Some(Err(_)) => warn!("no stream has answered so far; the repositories are read all the same"),
        Some(Ok(())) => {}
    }
    tell_leader("backfill", false);
    let mut failures = 0;
    let mut gap_at = None;
    loop {
        let attempt = Box::pin(attempt(app, queues, relay, gap_at));
        let Some(outcome) = shutdown.run_until_cancelled(attempt).await else { return };
        let rest = match outcome {
            Ok(true) => {
                failures = 0;
                gap_at = None;
                None
            }
            Ok(false) => Some(TERM / 3),
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(error = error.chain(), %relay, "the repositories cannot be listed; trying again");
                }
                // Longer than for a server of ours, and as long as the relay asks for.
                Some((pause(failures + 4) * 8).max(rest_of(&error).unwrap_or_default()))
            }
        };
        let wait = async {
            if let Some(rest) = rest {
                tokio::time::sleep(rest).await;
            } else {
                gap.notified().await;
                gap_at = Some(app.clock.now());
            }
        };
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Has it done unless that was done before, or since the gap. False while another process is at it.
async fn attempt(app: &App, queues: &Queues, relay: &Url, gap_at: Option<DateTime<Utc>>) -> Result<bool> {
    let mark = &format!("backfill {relay}");
    if is_done(app, mark, gap_at).await? {
        return Ok(true);
    }
    let Some(lock) = app.kv.lock(mark, TERM).await? else { return Ok(false) };
    let fence = &lock.fence();
    let work = async {
        // Whoever had the lock before may have done it meanwhile.
        if !is_done(app, mark, gap_at).await? {
            ask_for_all(app, queues, relay, mark, fence).await?;
        }
        Ok(true)
    };
    tell_leader("backfill", true);
    let outcome = lock.during(work).await;
    tell_leader("backfill", false);
    outcome.unwrap_or(Ok(false))
}

async fn is_done(app: &App, mark: &str, gap_at: Option<DateTime<Utc>>) -> Result<bool> {
    let done_at = cursor::load(app.db.read(), mark).await?;
    Ok(done_at.is_some_and(|done_at| gap_at.is_none_or(|gap_at| done_at > gap_at.timestamp())))
}

/// Asks for everything. The requests and the mark, which says when this began, are not one transaction: should the process
/// die between the two, the repositories are read once more.
async fn ask_for_all(app: &App, queues: &Queues, relay: &Url, mark: &str, fence: &Fence) -> Result<()> {
    let began = app.clock.now().timestamp();
    let mut found = BTreeSet::new();
    for collection in COLLECTIONS {
        let collection = Nsid::parse(collection)?;
        let mut position: Option<String> = None;
        for _ in 0..PAGES {
            let page = repos_with(&app.outbound, relay, &collection, position.as_deref()).await?;
            found.extend(page.dids.iter().map(ToString::to_string).filter(|did| accepts(did)));
            if page.cursor.is_none() || page.cursor == position || page.dids.is_empty() {
                break;
            }
            position = page.cursor;
        }
    }
    let now = app.clock.now();
    let dids: &Vec<String> = &found.into_iter().collect();
    app.db.transact(|tx| async move { identity::note(&*tx, dids, now).await }).await?;
    let requests = dids.iter().map(|did| Message { key: did.clone(), body: line::of_resync(did, now) });
    queues.resyncs.publish(&requests.collect::<Vec<_>>()).await?;
    app.db
        .transact(|tx| async move {
            fence.admit(&*tx).await?;
            cursor::save(&*tx, mark, began, now).await
        })
        .await?;
    info!(repositories = dids.len(), %relay, "the repositories that hold calendar records are being read");
    Ok(())
}
