//! The circuit of one of our own servers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use anyhow::anyhow;
use futures_util::future::BoxFuture;
use metrics::{counter, gauge};
use tokio::{sync::watch, time::timeout};

use super::{Breaker, Pass, Policy, Resting, State};
use crate::error::{Error, Result};

/// What a probe may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The servers that we need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// SQLite or PostgreSQL.
    Database,
    /// RabbitMQ.
    Broker,
    /// Redis.
    Redis,
}

impl Dependency {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Database, Self::Broker, Self::Redis];

    /// The name, as in [`Error::Unavailable`]; also a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Broker => "broker",
            Self::Redis => "redis",
        }
    }
}

type Look = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A circuit. Cheap to clone; clones are the same circuit.
#[derive(Clone)]
pub struct Circuit(Arc<Shared>);

struct Shared {
    dependency: Dependency,
    breaker: Arc<Breaker>,
    state: watch::Sender<State>,
    /// What the last failure was.
    trouble: Mutex<String>,
    /// Finds out whether the server is back.
    look: Option<Look>,
}

impl Circuit {
    /// A closed one that those who pass decide about.
    pub fn new(dependency: Dependency, policy: Policy) -> Self {
        Self::with(dependency, policy, None)
    }

    /// A closed one that, once open, looks by itself whether the server is back; nobody else passes until then. Needs the
    /// runtime from the first failure on.
    pub fn looking(
        dependency: Dependency,
        policy: Policy,
        look: impl Fn() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self::with(dependency, policy, Some(Box::new(look)))
    }

    fn with(dependency: Dependency, policy: Policy, look: Option<Look>) -> Self {
        let (breaker, (state, _)) = (Arc::new(Breaker::new(policy)), watch::channel(State::Closed));
        let circuit = Self(Arc::new(Shared { dependency, breaker, state, trouble: Mutex::default(), look }));
        circuit.0.tell();
        circuit
    }

    /// What it is the circuit of.
    pub fn dependency(&self) -> Dependency {
        self.0.dependency
    }

    /// Whether nobody is turned away.
    pub fn is_closed(&self) -> bool {
        self.0.breaker.state() == State::Closed
    }

    /// Returns when it is closed.
    pub async fn closed(&self) {
        // The sender lives as long as this handle.
        let _ = self.0.state.subscribe().wait_for(|state| *state == State::Closed).await;
    }

    /// Lets somebody try, who says afterwards how it went, with [`judge`](Self::judge).
    ///
    /// Errors: [`Error::Unavailable`], at once.
    pub fn admit(&self) -> Result<Pass> {
        let breaker = &self.0.breaker;
        let admitted = if self.0.look.is_some() { breaker.admit_closed() } else { breaker.admit() };
        if admitted.as_ref().is_ok_and(Pass::is_probe) {
            self.0.tell();
        }
        admitted.map_err(|resting| self.refusal(resting))
    }

    /// How it went for somebody who passed: only [`Error::Unavailable`] of this server speaks against it.
    pub fn judge<T>(&self, pass: Pass, outcome: &Result<T>) {
        match outcome {
            Err(error) if self.is_cause_of(error) => {
                self.remember(error);
                if pass.fails() {
                    self.0.opened();
                }
            }
            _ => drop(pass.works()),
        }
        self.0.tell();
    }

    /// Learns of a failure of somebody who had not asked for a pass, if it looks by itself: else nobody might close it. (Who
    /// had a pass and reports the failure as well only makes it open sooner.)
    pub fn suffer(&self, error: &Error) {
        if self.0.look.is_some()
            && self.is_cause_of(error)
            && let Ok(pass) = self.0.breaker.admit_closed()
        {
            self.remember(error);
            if pass.fails() {
                self.0.opened();
                self.0.tell();
            }
        }
    }

    fn remember(&self, error: &Error) {
        if let Error::Unavailable { source, .. } = error {
            *self.trouble() = format!("{source:#}");
        }
    }

    fn refusal(&self, resting: Resting) -> Error {
        let source = anyhow!(self.trouble().clone()).context(resting);
        Error::Unavailable { service: self.0.dependency.as_str(), source }
    }

    fn trouble(&self) -> MutexGuard<'_, String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cause_of(&self, error: &Error) -> bool {
        matches!(error, Error::Unavailable { service, .. } if *service == self.0.dependency.as_str())
    }
}

impl Shared {
    fn tell(&self) {
        self.state.send_if_modified(|told| {
            // Looked at in here: of two who tell at once, the later one tells the later state.
            let state = self.breaker.state();
            gauge!("gateway_circuit_state", "dependency" => self.dependency.as_str()).set(state.figure());
            std::mem::replace(told, state) != state
        });
    }

    fn opened(self: &Arc<Self>) {
        counter!("gateway_circuit_openings_total", "dependency" => self.dependency.as_str()).increment(1);
        if self.look.is_some() {
            tokio::spawn(come_back(Arc::downgrade(self)));
        }
    }
}

/// Looks until the server is back, or nobody wants it any more.
async fn come_back(circuit: Weak<Shared>) {
    loop {
        let Some(rest) = circuit.upgrade().and_then(|shared| shared.breaker.rest()) else { return };
        tokio::time::sleep(rest).await;
        let Some(shared) = circuit.upgrade() else { return };
        let (Some(look), Ok(pass)) = (&shared.look, shared.breaker.admit()) else { continue };
        shared.tell();
        let is_back = matches!(timeout(PATIENCE, look()).await, Ok(Ok(())));
        if is_back {
            pass.works();
            shared.tell();
            return;
        }
        pass.fails();
        shared.tell();
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("dependency", &self.0.dependency)
            .field("state", &self.0.breaker.state())
            .finish()
    }
}
