//! What only one process may do at a time.

use std::{pin::pin, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use super::{Fence, Kv};
use crate::error::Result;

/// A lock that was held when it was handed out, and for its time to live from then on unless it is renewed.
///
/// It is a promise between those who ask for it, not a wall: a process that is stopped for longer than the lock lives goes
/// on without knowing that another one has it. What is written in its name therefore passes [`Fence::admit`].
///
/// A lock that is dropped is released in the background; should that fail, it expires.
#[derive(Debug)]
pub struct Lock {
    pub(super) kv: Kv,
    pub(super) key: String,
    /// Known to this holder alone.
    pub(super) owner: String,
    pub(super) fence: u64,
    pub(super) ttl: Duration,
    /// By our own clock, and counted from before the store was asked: earlier than the store lets it go.
    pub(super) until: Instant,
    pub(super) is_over: bool,
}

impl Lock {
    /// The number of this holding.
    pub fn fence(&self) -> Fence {
        Fence { key: self.key.clone(), number: self.fence }
    }

    /// Holds it for its whole time to live again, from now on. False when it has expired or passed on: then it is lost.
    pub async fn renew(&mut self) -> Result<bool> {
        let asked = Instant::now();
        let is_held = self.kv.renew(&self.key, &self.owner, self.fence, self.ttl).await?;
        if is_held {
            self.until = asked + self.ttl;
        }
        Ok(is_held)
    }

    /// Lets it go. False when it was lost before; it is then left to whoever has it.
    pub async fn release(mut self) -> Result<bool> {
        self.is_over = true;
        self.kv.release(&self.key, &self.owner, self.fence).await
    }

    /// Works while the lock is held, which is renewed all the while, and then lets it go. `None` when the lock was lost, or
    /// could not be renewed in time; the work is then given up where it stands.
    pub async fn during<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        let outcome = tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = self.keep() => None,
        };
        if outcome.is_some()
            && let Err(error) = self.release().await
        {
            debug!(error = error.chain(), "a lock was not released; it expires");
        }
        outcome
    }

    /// Works to the end, renewing the lock all the while, and then lets it go: for work that must not be given up half-way, and
    /// that does no harm when the lock is lost.
    pub async fn throughout<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let outcome = tokio::select! {
            biased;
            outcome = &mut work => outcome,
            () = self.keep() => work.await,
        };
        if let Err(error) = self.release().await {
            debug!(error = error.chain(), "a lock was not released; it expires");
        }
        outcome
    }

    /// Renews it until that no longer works.
    async fn keep(&mut self) {
        let mut pause = self.ttl / 3;
        loop {
            sleep(pause).await;
            // A store that does not answer may already have given it to somebody else by then.
            let until = self.until;
            match timeout_at(until, self.renew()).await {
                Ok(Ok(true)) => pause = self.ttl / 3,
                Ok(Err(error)) if Instant::now() < until => {
                    debug!(error = error.chain(), "a lock was not renewed; trying again");
                    pause = self.ttl / 20;
                }
                Ok(Ok(false) | Err(_)) | Err(_) => {
                    warn!(key = self.key, "a lock was lost");
                    return;
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Without a runtime the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        let (kv, key, owner, fence) =
            (self.kv.clone(), std::mem::take(&mut self.key), std::mem::take(&mut self.owner), self.fence);
        runtime.spawn(async move {
            if let Err(error) = kv.release(&key, &owner, fence).await {
                debug!(error = error.chain(), "a lock was not released; it expires");
            }
        });
    }
}
