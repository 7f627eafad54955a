//! Reading repositories again, several beside each other, since each waits for a foreign host.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::counter;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, debug, field::Empty, info_span};

use super::{super::Queues, has_attempts_left, rung};
use crate::{
    app::App,
    domain::ingest::{self, Stage, failure, resync},
    error::{Class, Error, Result},
    infra::{
        http::rest_of,
        queue::{Delivery, Message, Settlement},
    },
    telemetry::caused,
};

/// Repositories that are read at once.
const PLACES: usize = 8;
/// Within this time a repository is read; it is shorter than the lease.
const TIME: Duration = Duration::from_mins(2);
/// Rungs of the ladder that are left out: a host that is away is so for longer than some seconds.
const SKIPPED: u32 = 2;

/// Those that are being read. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(super) struct Repositories {
    app: App,
    queues: Queues,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    standing: Arc<Mutex<Standing>>,
}

/// How our own system stands, as those who read have found it.
enum Standing {
    Works,
    /// It has failed, and whoever takes requests has not heard of it.
    Failed(Error),
    /// It has failed, which was heard; nobody knows yet whether it works again.
    Doubtful,
}

impl Repositories {
    pub(super) fn new(app: &App, queues: &Queues) -> Self {
        Self {
            app: app.clone(),
            queues: queues.clone(),
            places: Arc::new(Semaphore::new(PLACES)),
            tasks: TaskTracker::new(),
            standing: Arc::new(Mutex::new(Standing::Works)),
        }
    }

    /// Begins to read as many as there are places for; returns how many. What our own system failed at meanwhile is the error
    /// of this; then one alone is read first, to its end.
    pub(super) async fn take(&self, shutdown: &CancellationToken) -> Result<usize> {
        self.trouble()?;
        let is_doubtful = matches!(*self.standing(), Standing::Doubtful);
        let free = self.places.available_permits().min(if is_doubtful { 1 } else { PLACES });
        if free == 0 {
            return Ok(0);
        }
        let requests = self.queues.resyncs.receive(free as u64).await?;
        let count = requests.len();
        for request in requests {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { break };
            let span = info_span!("repo.fetch", trace_id = Empty, did = request.key, attempts = request.attempts);
            let span = caused(span, request.cause.as_deref());
            let repositories = self.clone();
            let work = async move {
                repositories.read(request).await;
                drop(place);
                repositories.queues.resyncs.ring();
            };
            let task = self.tasks.spawn(work.instrument(span));
            if is_doubtful {
                // It goes on by itself when it is time to stop.
                let _ = shutdown.run_until_cancelled(task).await;
                self.trouble()?;
            }
        }
        Ok(count)
    }

    /// Waits for those that are being read, for as long as a shutdown may take.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        if timeout(self.app.config.http.shutdown_grace(), self.tasks.wait()).await.is_err() {
            debug!("repositories were still being read; they are read again after the next start");
        }
    }

    async fn read(&self, request: Delivery) {
        let outcome = match timeout(TIME, self.fetch_and_submit(&request)).await {
            Ok(outcome) => outcome,
            Err(late) => Err(Error::upstream("pds", late)),
        };
        let (outcome, settlement) = self.judge(&request, outcome).await;
        counter!("gateway_resyncs_total", "outcome" => outcome).increment(1);
        if let Err(error) = self.queues.resyncs.settle(vec![(request, settlement)]).await {
            debug!(error = error.chain(), "a request to read a repository again was not settled; it comes again");
        }
    }

    async fn fetch_and_submit(&self, request: &Delivery) -> Result<()> {
        let lines = resync::fetch(&self.app, &request.body).await?;
        for batch in lines.chunks(self.app.config.ingest.batch_size) {
            let tried = ingest::attempt(&self.app, batch).await?;
            // What the database refuses has a ladder of its own, as if a stream had told it: the rest of the repository is
            // not read again for it.
            let refused = batch.iter().zip(tried).filter(|(_, tried)| tried.is_err());
            let messages = refused.map(|(line, _)| Message { key: request.key.clone(), body: line.clone() });
            self.queues.records.publish(&messages.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// What becomes of a request, and a word for it.
    async fn judge(&self, request: &Delivery, outcome: Result<()>) -> (&'static str, Settlement) {
        let Err(error) = outcome else {
            self.works();
            return ("done", Settlement::Ack);
        };
        match error.class() {
            Class::Retryable if has_attempts_left(&self.app, request) => {
                self.works();
                debug!(did = request.key, error = error.chain(), "failed to read a repository again; trying later");
                // A host that asks for more time gets it.
                let pause = rung(request.attempts + SKIPPED).max(rest_of(&error).unwrap_or_default());
                ("retried", Settlement::Retry(pause))
            }
            Class::Retryable | Class::Data => {
                match failure::give_up(&self.app, Stage::Fetch, &request.body, &error).await {
                    Ok(()) => {
                        self.works();
                        ("parked", Settlement::Ack)
                    }
                    Err(ours) => self.failed(ours),
                }
            }
            Class::System => self.failed(error),
        }
    }

    /// The request waits, and this was no attempt: nobody takes any more until our own system is back.
    fn failed(&self, error: Error) -> (&'static str, Settlement) {
        *self.standing() = Standing::Failed(error);
        ("released", Settlement::Release)
    }

    fn works(&self) {
        let mut standing = self.standing();
        // What was not heard yet is to be heard.
        if matches!(*standing, Standing::Doubtful) {
            *standing = Standing::Works;
        }
    }

    /// Fails with what nobody has heard of.
    fn trouble(&self) -> Result<()> {
        let mut standing = self.standing();
        if !matches!(*standing, Standing::Failed(_)) {
            return Ok(());
        }
        match std::mem::replace(&mut *standing, Standing::Doubtful) {
            Standing::Failed(error) => Err(error),
            Standing::Works | Standing::Doubtful => Ok(()),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
