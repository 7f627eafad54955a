//! How a loop pauses and goes on.

use std::time::Duration;

use futures_util::future::select_all;
use tracing::{info, warn};

use super::Circuit;
use crate::{error::Error, telemetry::Outage};

/// Longest pause: what comes back is noticed within this time, also when no circuit tells.
const LONGEST: Duration = Duration::from_secs(5);

/// The failures of one loop. The first is told, and then at most one a minute; so is its going on.
#[derive(Debug)]
pub struct Recovery {
    /// Completes "failed to …".
    what: &'static str,
    needs: Vec<Circuit>,
    failures: u32,
    outage: Outage,
}

impl Recovery {
    /// Of a loop that does `what` and needs these servers.
    pub fn new(what: &'static str, needs: impl IntoIterator<Item = Circuit>) -> Self {
        Self { what, needs: needs.into_iter().collect(), failures: 0, outage: Outage::default() }
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// It worked.
    pub fn works(&mut self) {
        self.failures = 0;
        if self.outage.works() {
            info!("again able to {}", self.what);
        }
    }

    /// It failed: the circuits learn of it, and this returns when it may be tried again, which is after a pause that doubles
    /// from 100 ms to 5 s, or as soon as an open circuit closes.
    pub async fn pause(&mut self, error: &Error) {
        self.failures += 1;
        if self.outage.fails() {
            warn!(error = error.chain(), "failed to {}; pausing until it works", self.what);
        }
        for circuit in &self.needs {
            circuit.suffer(error);
        }
        let open = self.needs.iter().filter(|circuit| !circuit.is_closed());
        let open: Vec<_> = open.map(|circuit| Box::pin(circuit.closed())).collect();
        let pause = tokio::time::sleep(pause(self.failures));
        if open.is_empty() {
            pause.await;
        } else {
            tokio::select! {
                () = pause => {}
                _ = select_all(open) => {}
            }
        }
    }
}

/// Pause after the n-th failure in a row, with jitter so that many do not come back at once.
pub fn pause(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(7)).min(LONGEST).mul_f64(0.5 + fastrand::f64() / 2.0)
}
