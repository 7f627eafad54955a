//! How many queries and mutations run at once in this process.
//!
//! There are two lanes with a line each, so that a cheap operation never waits behind an expensive one: a quarter of the
//! places is for operations of a thousand points and more, each of which takes one place and another for every thousand
//! points. Who finds no place within the time for waiting is turned away.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Points from which an operation is expensive, and for which it takes another place.
const EXPENSIVE: u64 = 1_000;

/// The places for operations.
#[derive(Debug)]
pub(super) struct Lanes {
    cheap: Semaphore,
    expensive: Semaphore,
    /// Places of the expensive lane: no operation needs more.
    most: u32,
}

impl Lanes {
    /// So many places in all, at least one in each lane.
    pub(super) fn new(places: usize) -> Self {
        let expensive = (places / 4).max(1);
        let cheap = places.saturating_sub(expensive).clamp(1, Semaphore::MAX_PERMITS);
        let most = u32::try_from(expensive).unwrap_or(u32::MAX);
        Self { cheap: Semaphore::new(cheap), expensive: Semaphore::new(most as usize), most }
    }

    /// A place for an operation of that cost, given back when dropped; `None` when there is none in time.
    pub(super) async fn enter(&self, cost: u64, patience: Duration) -> Option<SemaphorePermit<'_>> {
        let place = if cost < EXPENSIVE {
            timeout(patience, self.cheap.acquire()).await
        } else {
            let places = u32::try_from(1 + cost / EXPENSIVE).unwrap_or(u32::MAX).min(self.most);
            timeout(patience, self.expensive.acquire_many(places)).await
        };
        place.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn expensive_operations_take_more_and_leave_the_cheap_alone() {
        let lanes = Lanes::new(16);
        let first = lanes.enter(2_999, NOW).await;
        assert!(first.is_some() && lanes.enter(1_000, NOW).await.is_none(), "three of four, then two");
        let mut cheap = Vec::new();
        for _ in 0..12 {
            cheap.push(lanes.enter(999, NOW).await.unwrap());
        }
        assert!(lanes.enter(1, NOW).await.is_none());
        drop(first);
        let largest = lanes.enter(u64::MAX, NOW).await;
        assert!(largest.is_some() && lanes.enter(1_000, NOW).await.is_none());
        drop(cheap);
        assert!(lanes.enter(1, NOW).await.is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_place() {
        let lanes = Lanes::new(2);
        let held = lanes.enter(1, NOW).await.unwrap();
        let ((), waited) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                drop(held);
            },
            lanes.enter(1, Duration::from_mins(1))
        );
        assert!(waited.is_some());
    }
}
