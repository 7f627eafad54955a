//! The first start: streams only tell what happens from now on, so a relay is asked which repositories hold calendar
//! records, and each of them is read once.

use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::{Queues, pause};
use crate::{
    app::App,
    domain::{
        account::identity,
        ingest::{cursor, line},
        source::COLLECTIONS,
    },
    error::Result,
    infra::{
        atproto::{relay::repos_with, syntax::Nsid},
        queue::Message,
    },
};

/// How long a stream is waited for. Repositories are read behind a stream that is already followed, so that nothing is
/// written between the two; but better a little may be missing than everything.
const CONNECTION: Duration = Duration::from_secs(30);

/// Reads every repository once, and never again; tries until the relay answers or the token is cancelled.
pub(super) async fn run(app: &App, queues: &Queues, connected: &Notify, shutdown: &CancellationToken) {
    let Some(relay) = &app.config.streams.backfill else { return };
    let wait = tokio::time::timeout(CONNECTION, connected.notified());
    match shutdown.run_until_cancelled(wait).await {
        None => return,
        Some(Err(_)) => warn!("no stream has answered so far; the repositories are read all the same"),
        Some(Ok(())) => {}
    }
    let mut failures = 0;
    while let Err(error) = attempt(app, queues, relay).await {
        failures += 1;
        if failures == 1 {
            warn!(error = error.chain(), %relay, "the repositories cannot be listed; trying again");
        }
        let rest = pause(failures + 4) * 4;
        if shutdown.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            return;
        }
    }
}

async fn attempt(app: &App, queues: &Queues, relay: &Url) -> Result<()> {
    let mark = &format!("backfill {relay}");
    if cursor::load(app.db.read(), mark).await?.is_some() {
        return Ok(());
    }
    let mut found = 0;
    for collection in COLLECTIONS {
        let collection = Nsid::parse(collection)?;
        let mut position: Option<String> = None;
        loop {
            let page = repos_with(&app.outbound, relay, &collection, position.as_deref()).await?;
            let now = app.clock.now();
            let dids: &Vec<String> = &page.dids.iter().map(ToString::to_string).collect();
            app.db.transact(|tx| async move { identity::note(&*tx, dids, now).await }).await?;
            let requests =
                dids.iter().map(|did| Message { key: did.clone(), body: line::of_resync(did, Some(&collection), now) });
            queues.resyncs.publish(requests.collect()).await?;
            found += dids.len();
            // A relay that repeats itself would never end.
            if page.cursor.is_none() || page.cursor == position || dids.is_empty() {
                break;
            }
            position = page.cursor;
        }
    }
    let now = app.clock.now();
    app.db.transact(|tx| async move { cursor::save(&*tx, mark, now.timestamp(), now).await }).await?;
    info!(repositories = found, %relay, "the repositories that hold calendar records are being read");
    Ok(())
}
