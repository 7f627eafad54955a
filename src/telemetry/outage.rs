//! When to speak of something that fails again and again.

use std::time::{Duration, Instant};

/// Between two lines about the same trouble.
const REST: Duration = Duration::from_mins(1);

/// Keeps a loop that fails, or that fails and recovers in turn, from filling the log: its first failure is told, and
/// then at most one a minute; its recovery, where the failure before was told.
#[derive(Debug, Default)]
pub struct Outage {
    told: Option<Instant>,
    open: bool,
}

impl Outage {
    /// It failed; whether to say so.
    pub fn fails(&mut self) -> bool {
        self.fails_at(Instant::now())
    }

    fn fails_at(&mut self, now: Instant) -> bool {
        let speaks = self.told.is_none_or(|at| now.duration_since(at) >= REST);
        if speaks {
            self.told = Some(now);
            self.open = true;
        }
        speaks
    }

    /// It works; whether to say that it does so again.
    pub fn works(&mut self) -> bool {
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_line_a_minute() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        assert!(!outage.works(), "nothing has failed");
        let told = (0..150).filter(|second| outage.fails_at(begin + Duration::from_secs(*second)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 60, 120]);
    }

    #[test]
    fn what_flaps_is_told_once_a_minute_both_ways() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        let lines = (0..100).map(|second| (outage.fails_at(begin + Duration::from_secs(second)), outage.works()));
        let told: Vec<_> = lines.filter(|(fails, works)| *fails || *works).collect();
        assert_eq!(told, [(true, true); 2]);
    }
}
