//! How often something may happen: windows that slide.
//!
//! A window is counted in [`SLICES`] slices, and one more, the oldest, of which only a part still lies in the window, is
//! counted whole. So there is never more than the limit in any window, wherever it begins; the price is that a place may
//! become free up to one slice later than it could. What is kept is small and does not grow with the limit. The script of
//! Redis counts in the same way.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Slices of a window.
pub(super) const SLICES: i64 = 32;

/// Keys that the embedded store counts for at most.
const MOST_KEYS: usize = 100_000;

/// So much in any stretch of time of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How much.
    pub count: u32,
    /// In which time; whole microseconds, at least one millisecond.
    pub per: Duration,
}

impl Limit {
    /// Length of a slice in microseconds; all slices together are at least as long as the window.
    pub(super) fn slice(self) -> i64 {
        let window = i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX / 4).clamp(1_000, i64::MAX / 4);
        (window + SLICES - 1) / SLICES
    }
}

/// Whether something may happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// It may, and has been counted.
    pub is_allowed: bool,
    /// How much more may happen right now.
    pub remaining: u32,
    /// When to ask again: nought when it was allowed. A whole window when more is asked for than the limit ever allows.
    pub retry_after: Duration,
}

/// What was counted for one key.
#[derive(Debug, Default)]
struct Window {
    /// Number of the slice since 1970, and how much happened in it; oldest first.
    slices: Vec<(i64, u64)>,
    /// Microseconds since 1970 at which nothing of it counts any more.
    ends: i64,
}

impl Window {
    fn ask(&mut self, now: i64, limit: Limit, cost: u32) -> Rate {
        let slice = limit.slice();
        let current = now.div_euclid(slice);
        self.slices.retain(|(number, _)| *number >= current - SLICES);
        let used: u64 = self.slices.iter().map(|(_, count)| count).sum();
        let (most, cost) = (u64::from(limit.count), u64::from(cost));
        let remaining = |used: u64| u32::try_from(most.saturating_sub(used)).unwrap_or(u32::MAX);
        if used + cost <= most {
            match self.slices.iter_mut().find(|(number, _)| *number == current) {
                Some((_, count)) => *count += cost,
                None => self.slices.push((current, cost)),
            }
            self.slices.sort_unstable();
            self.ends = (current + SLICES + 1) * slice;
            return Rate { is_allowed: true, remaining: remaining(used + cost), retry_after: Duration::ZERO };
        }
        let mut excess = used + cost - most;
        let freed = self.slices.iter().find(|(_, count)| {
            excess = excess.saturating_sub(*count);
            excess == 0
        });
        let wait = freed.map_or(slice * SLICES, |(number, _)| (number + SLICES + 1) * slice - now);
        let retry_after = Duration::from_micros(wait.unsigned_abs());
        Rate { is_allowed: false, remaining: remaining(used), retry_after }
    }
}

/// Windows in memory: each process counts for itself.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<HashMap<String, Window>>);

impl Windows {
    pub(super) fn ask(&self, key: &str, now: i64, limit: Limit, cost: u32) -> Rate {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_KEYS && !windows.contains_key(key) {
            windows.retain(|_, window| window.ends > now);
            // Still full: some are forgotten, since to refuse all newcomers would be the worse outcome of a flood.
            let most = MOST_KEYS - MOST_KEYS / 16;
            let mut kept = 0;
            windows.retain(|_, _| {
                kept += 1;
                kept <= most
            });
        }
        windows.entry(key.to_owned()).or_default().ask(now, limit, cost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_limit(
            count in 1_u32..20,
            per in 1_u64..5_000,
            steps in prop::collection::vec((0_i64..400_000, 1_u32..4), 1..200),
        ) {
            let limit = Limit { count, per: Duration::from_millis(per) };
            let mut window = Window::default();
            let mut now = 1_700_000_000_000_000;
            let mut happened: Vec<(i64, u32)> = Vec::new();
            for (pause, cost) in steps {
                now += pause;
                let rate = window.ask(now, limit, cost);
                let start = now - i64::try_from(limit.per.as_micros()).unwrap();
                let before: u32 = happened.iter().filter(|(at, _)| *at >= start).map(|(_, cost)| cost).sum();
                if rate.is_allowed {
                    happened.push((now, cost));
                    prop_assert!(before + cost <= count);
                } else {
                    prop_assert!(rate.retry_after > Duration::ZERO);
                    if cost <= count {
                        let wait = i64::try_from(rate.retry_after.as_micros()).unwrap();
                        let mut later = Window { slices: window.slices.clone(), ends: window.ends };
                        prop_assert!(!later.ask(now + wait - 1, limit, cost).is_allowed);
                        prop_assert!(later.ask(now + wait, limit, cost).is_allowed);
                    }
                }
                prop_assert!(window.slices.len() <= usize::try_from(SLICES).unwrap() + 1);
            }
        }
    }

    #[test]
    fn a_flood_of_keys_stays_bounded() {
        let windows = Windows::default();
        let limit = Limit { count: 1, per: Duration::from_mins(1) };
        for key in 0..MOST_KEYS + MOST_KEYS / 4 {
            windows.ask(&key.to_string(), 1_700_000_000_000_000, limit, 1);
        }
        assert!(windows.0.lock().unwrap().len() <= MOST_KEYS);
    }
}
