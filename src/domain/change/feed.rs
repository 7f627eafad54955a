//! The live end of the log: one tail for each process, any number of subscribers.
//!
//! The tail reads new rows when it hears the doorbell or when the poll interval is over (which is longer while the bell
//! brings the rings of other processes too), loads the events of a batch with one statement, and fans out through a ring
//! in memory. Every item in the ring says which position it follows on, so a subscriber can tell a gap from a quiet time:
//! whenever the ring does not go on where the subscriber stands (it was too slow, the tail slept, it has only just
//! resumed) it reads the log until it has caught up. Nothing is lost to slowness and nobody is waited for.
//!
//! Invariant: a subscriber that stands at position *p* has been handed every change up to *p* that its filter wants.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Change, Cursor, Filter, log};
use crate::{
    domain::tenant::Tenant,
    error::{Error, Result},
    infra::{db::Db, kv::Bell, resilience::Recovery},
};

/// How many rows the tail, or a subscriber that catches up, reads at once. An event of the largest kind has some 300 KB.
const BATCH: u64 = 100;

/// How many poll intervals the tail waits while it hears every process ring: then it looks only because rings can be lost.
const PATIENCE: u32 = 8;

/// Longest pause between two tries while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a [`Feed`] works.
#[derive(Clone, Copy, Debug)]
pub struct FeedSettings {
    /// How often the tail looks when nobody rings: how late changes of other processes may arrive.
    pub poll: Duration,
    /// Changes kept in memory for subscribers that are a little behind; those further behind read the log.
    pub retain: usize,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self { poll: Duration::from_millis(250), retain: 1024 }
    }
}

/// Committed changes of events of one tenant, live. Cheap to clone; all clones, those [for other tenants](Self::of) too,
/// share one tail, which somebody has to [run](Self::run).
#[derive(Clone)]
pub struct Feed(Arc<Shared>, Tenant);

struct Shared {
    db: Db,
    poll: Duration,
    bell: Bell,
    /// Wakes the tail for reasons of this process.
    wake: Notify,
    ring: broadcast::Sender<Step>,
    ended: CancellationToken,
}

/// One step of the tail through the log.
#[derive(Clone)]
struct Step {
    /// The position before.
    from: i64,
    /// The position after.
    to: i64,
    /// What lies between; none when the tail has just woken up at a position.
    change: Option<Arc<Change>>,
}

impl Feed {
    /// A feed that is silent until it [runs](Self::run). The bell tells of commits, those of other processes included when
    /// it reaches them.
    pub fn new(db: Db, tenant: Tenant, bell: Bell, settings: FeedSettings) -> Self {
        let (ring, _) = broadcast::channel(settings.retain.max(1));
        let (wake, ended) = (Notify::new(), CancellationToken::new());
        Self(Arc::new(Shared { db, poll: settings.poll, bell, wake, ring, ended }), tenant)
    }

    /// The same feed, for what another tenant sees.
    #[must_use]
    pub fn of(&self, tenant: Tenant) -> Self {
        Self(Arc::clone(&self.0), tenant)
    }

    /// Wakes the tails of all processes that hear the bell. To be called after each commit of changes; forgetting it costs
    /// one poll interval.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    /// Follows the log until `shutdown` is cancelled; then every subscription ends with an error that says so. While the
    /// database is away it tries again and again. Without subscribers it asks the database nothing.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut position = None;
        let mut recovery = Recovery::new("follow the change log", [self.0.db.circuit().clone()]);
        let mut listener = self.0.bell.listen();
        loop {
            let poll = if self.0.bell.is_joined() { self.0.poll * PATIENCE } else { self.0.poll };
            let woken = async {
                tokio::select! {
                    () = listener.rung() => {}
                    () = self.0.wake.notified() => {}
                    () = tokio::time::sleep(poll) => {}
                }
            };
            // After a failure the pause was wait enough.
            if !recovery.is_failing() && shutdown.run_until_cancelled(woken).await.is_none() {
                break;
            }
            match shutdown.run_until_cancelled(self.advance(&mut position)).await {
                None => break,
                Some(Ok(())) => recovery.works(),
                Some(Err(error)) => {
                    metrics::counter!("gateway_feed_failures_total").increment(1);
                    if shutdown.run_until_cancelled(recovery.pause(&error)).await.is_none() {
                        break;
                    }
                }
            }
        }
        self.0.ended.cancel();
    }

    /// Changes that the filter wants, in the order of the log, each exactly once: those after the cursor first, then
    /// what comes; without a cursor what is committed after this call has returned, and perhaps a little before.
    ///
    /// Fails at once with `CURSOR_EXPIRED` or `CURSOR_INVALID` (see [`log::page`]) or when the database is away. Later
    /// outages are waited out. The stream ends after its first error: `CURSOR_EXPIRED` for a subscriber so slow that
    /// retention overtakes it, `Unavailable` at the shutdown of the process. It never ends without one.
    pub async fn subscribe(
        &self,
        filter: Filter,
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = Result<Arc<Change>>> + Send + use<>> {
        let subscription = self.start(filter, after, false).await?;
        // The tail may sleep for want of subscribers.
        self.0.wake.notify_one();
        Ok(subscription.into_stream())
    }

    /// Changes after the cursor that the filter wants, up to the end of the log, which is one that it has after this call
    /// was made; then the stream ends. Errors: as [`subscribe`](Self::subscribe).
    pub async fn replay(
        &self,
        filter: Filter,
        after: Cursor,
    ) -> Result<impl Stream<Item = Result<Arc<Change>>> + Send + use<>> {
        Ok(self.start(filter, Some(after), true).await?.into_stream())
    }

    async fn start(&self, filter: Filter, after: Option<Cursor>, ends: bool) -> Result<Subscription> {
        // Before the position is read: so nothing can fall between the two.
        let ring = self.0.ring.subscribe();
        let start = match after {
            Some(cursor) => cursor,
            None => log::head(self.0.db.read()).await?,
        };
        let mut subscription = Subscription {
            feed: Arc::clone(&self.0),
            tenant: self.1,
            filter,
            ring,
            position: start.id(),
            ready: VecDeque::new(),
            behind: after.is_some(),
            ends,
            failures: 0,
            over: false,
        };
        if subscription.behind {
            subscription.read().await?;
        }
        Ok(subscription)
    }

    /// Reads what is new and hands it out.
    async fn advance(&self, position: &mut Option<i64>) -> Result<()> {
        let Shared { db, ring, .. } = &*self.0;
        loop {
            if ring.receiver_count() == 0 {
                *position = None;
                return Ok(());
            }
            let mut at = if let Some(at) = *position {
                at
            } else {
                let head = log::head(db.read()).await?.id();
                // Who has come before this moment sees whether it missed something.
                self.send(Step { from: head, to: head, change: None });
                head
            };
            let changes = log::following(db.read(), at, BATCH).await?;
            let more = changes.len() as u64 == BATCH;
            for change in changes {
                let step = Step { from: at, to: change.row.id, change: Some(change) };
                at = step.to;
                self.send(step);
            }
            *position = Some(at);
            if !more {
                return Ok(());
            }
        }
    }

    fn send(&self, step: Step) {
        // Fails only without a receiver, and then nobody misses it.
        let _ = self.0.ring.send(step);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("subscribers", &self.0.ring.receiver_count()).finish_non_exhaustive()
    }
}

struct Subscription {
    feed: Arc<Shared>,
    tenant: Tenant,
    filter: Filter,
    ring: broadcast::Receiver<Step>,
    /// Everything up to here is delivered or `ready`.
    position: i64,
    ready: VecDeque<Arc<Change>>,
    /// The log holds, or may hold, more than `position` that the ring will not bring.
    behind: bool,
    /// It is over as soon as it is not behind.
    ends: bool,
    failures: u32,
    over: bool,
}

impl Subscription {
    fn into_stream(self) -> impl Stream<Item = Result<Arc<Change>>> + Send + use<> {
        stream::unfold(self, |mut subscription| async move {
            let item = subscription.next().await?;
            Some((item, subscription))
        })
    }

    async fn next(&mut self) -> Option<Result<Arc<Change>>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(Ok(change));
            }
            if self.over || (self.ends && !self.behind) {
                return None;
            }
            let ended = self.feed.ended.clone();
            let step = async { if self.behind { self.catch_up().await } else { self.listen().await } };
            if let Err(error) = ended.run_until_cancelled(step).await.unwrap_or_else(|| Err(shut_down())) {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    /// Takes one page from the log, waiting out the database.
    async fn catch_up(&mut self) -> Result<()> {
        match self.read().await {
            Err(error @ Error::Unavailable { .. }) => {
                // The tail has the same trouble and tells of it.
                debug!(error = error.chain(), "a subscriber waits for the change log");
                self.failures += 1;
                tokio::time::sleep(pause(self.feed.poll, self.failures)).await;
                Ok(())
            }
            outcome => {
                self.failures = 0;
                outcome
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        // What the ring holds now is in the log as well, before the head that is read next.
        self.ring = self.ring.resubscribe();
        let (db, tenant) = (&self.feed.db, self.tenant);
        let page = log::page(db.read(), tenant, Some(Cursor::new(self.position)), &self.filter, BATCH).await?;
        self.ready.extend(log::with_events(db.read(), tenant, page.changes).await?);
        self.position = page.end.id();
        self.behind = page.has_more;
        Ok(())
    }

    /// Takes one step from the ring.
    async fn listen(&mut self) -> Result<()> {
        match self.ring.recv().await {
            // The log has brought it already.
            Ok(step) if step.to <= self.position => {}
            Ok(step) if step.from > self.position => self.behind = true,
            Ok(step) => {
                self.position = step.to;
                let is_own = |change: &Arc<Change>| Tenant::of_change(&change.row) == self.tenant;
                let wanted = step.change.filter(|change| is_own(change) && self.filter.matches(&change.row));
                self.ready.extend(wanted);
            }
            Err(RecvError::Lagged(_)) => {
                metrics::counter!("gateway_feed_lags_total").increment(1);
                self.behind = true;
            }
            Err(RecvError::Closed) => return Err(shut_down()),
        }
        Ok(())
    }
}

/// The poll interval, doubled for each failure, with jitter.
fn pause(poll: Duration, failures: u32) -> Duration {
    if failures == 0 {
        return poll;
    }
    let ceiling = poll.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE.max(poll));
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn shut_down() -> Error {
    Error::Unavailable { service: "shutdown", source: anyhow::anyhow!("the process ends") }
}
