//! What fails again and again is left alone for a while: circuits for our own servers and for hosts of the network, and the
//! one way in which a loop pauses and goes on.
//!
//! A [`Breaker`] is the state machine. Closed, everybody passes. After some failures in a row, or when a host asks for it, it
//! opens: everybody is told no at once. After its rest it is half-open: one passes, as a probe, and decides. A [`Circuit`] is
//! the breaker of one of our own servers: it may look by itself whether the server is back, it can be waited for, and it is
//! seen in the metrics. A [`Recovery`] is how a loop lives with circuits.
//!
//! Deliberately absent: retries. Whoever is told no decides what that means for its work.

mod circuit;
mod recovery;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

pub use self::{
    circuit::{Circuit, Dependency},
    recovery::{Recovery, pause},
};

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Its first rest; it doubles with every probe that fails. Each rest is shortened by up to a half at random, so that many
    /// processes do not come back at once.
    pub first: Duration,
    /// Its longest rest, unless a longer one is asked for.
    pub longest: Duration,
}

/// How a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everybody passes.
    Closed,
    /// One is on its way to find out.
    HalfOpen,
    /// Nobody passes.
    Open,
}

impl State {
    /// As a figure of a metric: the higher, the worse.
    pub fn figure(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Nobody passes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has failed and is left alone for {:.1} s", .retry_after.as_secs_f64())]
pub struct Resting {
    /// When to try again.
    pub retry_after: Duration,
    /// Whether the other side asked for the rest.
    pub was_asked: bool,
}

/// A circuit breaker. Knows nothing of what it guards.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts changes of the phase: who passed in an earlier one is no longer heard.
    generation: u64,
    /// Rests since it was last closed.
    rests: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant, was_asked: bool },
    Probing { was_asked: bool },
}

/// Leave to try. To be told how it went; a pass that is dropped without a word says nothing, and gives the probe back.
#[derive(Debug)]
#[must_use = "the breaker learns from it"]
pub struct Pass {
    breaker: Arc<Breaker>,
    generation: u64,
    is_probe: bool,
}

/// What another one hears of who is told no while somebody probes.
const SOON: Duration = Duration::from_secs(1);

impl Breaker {
    /// A closed one.
    pub fn new(policy: Policy) -> Self {
        Self { policy, inner: Mutex::new(Inner { phase: Phase::Closed { failures: 0 }, generation: 0, rests: 0 }) }
    }

    /// Lets somebody try, or says how long to wait.
    pub fn admit(self: &Arc<Self>) -> Result<Pass, Resting> {
        let mut inner = self.inner();
        let is_probe = match inner.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until, was_asked } => {
                let retry_after = until.saturating_duration_since(Instant::now());
                if !retry_after.is_zero() {
                    return Err(Resting { retry_after, was_asked });
                }
                inner.enter(Phase::Probing { was_asked });
                true
            }
            Phase::Probing { was_asked } => return Err(Resting { retry_after: SOON, was_asked }),
        };
        let generation = inner.generation;
        drop(inner);
        Ok(Pass { breaker: Arc::clone(self), generation, is_probe })
    }

    /// The same for who must not be the probe: passes only while it is closed.
    pub fn admit_closed(self: &Arc<Self>) -> Result<Pass, Resting> {
        let inner = self.inner();
        let (retry_after, was_asked) = match inner.phase {
            Phase::Closed { .. } => {
                let generation = inner.generation;
                return Ok(Pass { breaker: Arc::clone(self), generation, is_probe: false });
            }
            Phase::Open { until, was_asked } => (until.saturating_duration_since(Instant::now()), was_asked),
            Phase::Probing { was_asked } => (SOON, was_asked),
        };
        Err(Resting { retry_after, was_asked })
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match self.inner().phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::Probing { .. } => State::HalfOpen,
        }
    }

    /// Time until somebody may try; `None` while everybody may.
    pub fn rest(&self) -> Option<Duration> {
        match self.inner().phase {
            Phase::Closed { .. } => None,
            Phase::Open { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            Phase::Probing { .. } => Some(SOON),
        }
    }

    /// Whether it has nothing to remember.
    pub fn is_blank(&self) -> bool {
        matches!(self.inner().phase, Phase::Closed { failures: 0 })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    /// Whether it was closed.
    fn open(&mut self, policy: &Policy, asked: Option<Duration>) -> bool {
        let was_closed = matches!(self.phase, Phase::Closed { .. });
        let bound = policy.first.saturating_mul(1 << self.rests.min(20)).min(policy.longest);
        let rest = bound.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.rests = self.rests.saturating_add(1);
        let until = Instant::now() + asked.unwrap_or(rest);
        self.enter(Phase::Open { until, was_asked: asked.is_some() });
        was_closed
    }
}

impl Pass {
    /// Whether everything waits for this one.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// It worked. Whether that closed the circuit.
    pub fn works(self) -> bool {
        let mut inner = self.breaker.inner();
        if inner.generation != self.generation {
            return false;
        }
        match &mut inner.phase {
            Phase::Closed { failures } => {
                *failures = 0;
                false
            }
            Phase::Probing { .. } | Phase::Open { .. } => {
                inner.rests = 0;
                inner.enter(Phase::Closed { failures: 0 });
                true
            }
        }
    }

    /// It failed. Whether that opened the circuit, which was closed.
    pub fn fails(self) -> bool {
        let mut inner = self.breaker.inner();
        if inner.generation != self.generation {
            return false;
        }
        if let Phase::Closed { failures } = &mut inner.phase {
            *failures += 1;
            if *failures < self.breaker.policy.failures {
                return false;
            }
        }
        inner.open(&self.breaker.policy, None)
    }

    /// The other side asks to be left alone for so long: it is. Whether that opened the circuit, which was closed.
    pub fn rests(self, asked: Duration) -> bool {
        let mut inner = self.breaker.inner();
        // Of several who were told so, the last knows best; who closed it meanwhile knew better.
        let was_asked = matches!(inner.phase, Phase::Open { was_asked: true, .. });
        (inner.generation == self.generation || was_asked) && inner.open(&self.breaker.policy, Some(asked))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_probe {
            let mut inner = self.breaker.inner();
            if inner.generation == self.generation
                && let Phase::Probing { was_asked } = inner.phase
            {
                inner.enter(Phase::Open { until: Instant::now(), was_asked });
            }
        }
    }
}
