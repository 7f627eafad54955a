//! How much runs at once in this process.
//!
//! There are two lanes with a line each, so that a cheap operation never waits behind an expensive one: a quarter of the
//! places is for operations of a thousand points and more, each of which takes one place and another for every thousand
//! points. These are at most half as many as there are connections to the database, so that some are left for the cheap.
//! Who finds no place within the time for waiting is turned away. Events of subscriptions have a third line, see
//! [`turn`](super::turn).

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Points from which an operation is expensive, and for which it takes another place.
const EXPENSIVE: u64 = 1_000;

/// The places for operations.
#[derive(Debug)]
pub(super) struct Lanes {
    cheap: Arc<Semaphore>,
    expensive: Arc<Semaphore>,
    /// Places of the expensive lane: no operation needs more.
    most: u32,
    events: Arc<Semaphore>,
}

impl Lanes {
    /// So many places for operations that share so many connections, at least one in each lane.
    pub(super) fn new(places: usize, connections: usize) -> Self {
        let quarter = (places / 4).max(1);
        let cheap = places.saturating_sub(quarter).clamp(1, Semaphore::MAX_PERMITS);
        let most = u32::try_from(quarter.min(connections / 2).max(1)).unwrap_or(u32::MAX);
        let events = (connections / 4).clamp(1, Semaphore::MAX_PERMITS);
        let lane = |places| Arc::new(Semaphore::new(places));
        Self { cheap: lane(cheap), expensive: lane(most as usize), most, events: lane(events) }
    }

    /// The line of the events of subscriptions: as many places as a quarter of the connections.
    pub(super) const fn events(&self) -> &Arc<Semaphore> {
        &self.events
    }

    /// A place for an operation of that cost, given back when dropped; `None` when there is none in time.
    pub(super) async fn enter(&self, cost: u64, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let place = if cost < EXPENSIVE {
            timeout(patience, Arc::clone(&self.cheap).acquire_owned()).await
        } else {
            let places = u32::try_from(1 + cost / EXPENSIVE).unwrap_or(u32::MAX).min(self.most);
            timeout(patience, Arc::clone(&self.expensive).acquire_many_owned(places)).await
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
        let lanes = Lanes::new(16, 100);
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
    async fn expensive_operations_leave_half_of_the_connections() {
        for (connections, places) in [(10, 5), (3, 1), (1, 1), (1_000, 16)] {
            let lanes = Lanes::new(64, connections);
            let mut held = Vec::new();
            while let Ok(place) = Arc::clone(&lanes.expensive).try_acquire_owned() {
                held.push(place);
            }
            assert_eq!(held.len(), places, "{connections} connections");
            assert!(lanes.enter(u64::MAX, NOW).await.is_none() && lanes.enter(1, NOW).await.is_some());
            drop(held);
            assert!(lanes.enter(u64::MAX, NOW).await.is_some(), "the dearest takes no more than there are");
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_place() {
        let lanes = Lanes::new(2, 100);
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
