//! The one clock.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time; tests set it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The clock of the machine.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    pub fn system() -> Self {
        Self(Arc::new(Utc::now))
    }

    /// A clock that a test steers.
    pub fn steered(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, in whole microseconds: what both databases can keep.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)().trunc_subsecs(6)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
