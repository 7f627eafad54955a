//! Where a queue under test is, and how tests use it.

#![expect(clippy::print_stdout, reason = "which implementation fails is part of the failure")]

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use futures_util::FutureExt;
use gateway::infra::{
    clock::Clock,
    queue::{Delivery, Message, Queue, Settlement, Topic},
};

use super::broker::{self, TestBroker};
use crate::support::database::{TestDb, databases};

/// Far more than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A queue that nobody else uses.
pub(super) enum Place {
    Table(TestDb),
    Broker(TestBroker),
}

impl Place {
    /// A handle with connections of its own, as another process would have.
    pub(super) async fn open(&self, topic: Topic) -> Queue {
        self.open_at(Clock::system(), topic).await
    }

    /// The same, but later than the lease of a consumer that has died.
    pub(super) async fn open_later(&self, topic: Topic) -> Queue {
        self.open_after(topic, 1).await
    }

    /// The same, but later than the leases of so many that have died one after the other.
    pub(super) async fn open_after(&self, topic: Topic, deaths: i32) -> Queue {
        let (system, lease) = (Clock::system(), TimeDelta::from_std(topic.lease()).unwrap());
        self.open_at(Clock::steered(move || system.now() + lease * 2 * deaths), topic).await
    }

    async fn open_at(&self, clock: Clock, topic: Topic) -> Queue {
        match self {
            Self::Table(database) => Queue::embedded(database.connect_again().await, clock, topic),
            Self::Broker(broker) => Queue::rabbit(&broker.connect().await, clock, topic),
        }
    }

    /// Waits until the queue says that it holds so many messages: the figures of a broker come a moment late.
    pub(super) async fn until_depth(&self, queue: &Queue, messages: u64) {
        let started = Instant::now();
        loop {
            let depth = queue.depth().await.unwrap();
            if depth.messages == messages {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{depth:?} instead of {messages}");
            queue.wait().await;
        }
    }
}

/// Runs the test on each implementation in turn, and deletes what it made even when it fails.
pub(super) async fn on_each_queue(test: impl AsyncFn(&Place)) {
    on_each_queue_and(TestBroker::new(broker::url()).await, test).await;
}

/// The same with this broker.
pub(super) async fn on_each_queue_and(broker: TestBroker, test: impl AsyncFn(&Place)) {
    let tables = databases().await.into_iter().map(Place::Table);
    let broker = Place::Broker(broker);
    for place in tables.chain([broker]) {
        match &place {
            Place::Table(database) => println!("on the table on {:?}", database.db.backend()),
            Place::Broker(_) => println!("on RabbitMQ"),
        }
        let outcome = AssertUnwindSafe(test(&place)).catch_unwind().await;
        match place {
            Place::Table(database) => database.discard().await,
            Place::Broker(broker) => broker.discard().await,
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A message.
pub(super) fn message(key: &str, body: &str) -> Message {
    Message { key: key.to_owned(), body: body.to_owned() }
}

/// The bodies in their order.
pub(super) fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.body.as_str()).collect()
}

/// Takes exactly so many messages in one batch, however long they need to come.
pub(super) async fn take(queue: &Queue, count: usize) -> Vec<Delivery> {
    let started = Instant::now();
    loop {
        let deliveries = queue.receive(count as u64).await.unwrap();
        if deliveries.len() == count {
            return deliveries;
        }
        assert!(started.elapsed() < PATIENCE, "only {} of {count} came", deliveries.len());
        // Put back, since nothing more comes of a key that is being worked on.
        settle(queue, deliveries, Settlement::Release).await;
        queue.wait().await;
    }
}

/// Ends all of them in the same way.
pub(super) async fn settle(queue: &Queue, deliveries: Vec<Delivery>, settlement: Settlement) {
    queue.settle(deliveries.into_iter().map(|delivery| (delivery, settlement)).collect()).await.unwrap();
}

/// Whether nothing is left, neither to be handed out nor waiting.
pub(super) async fn is_empty(queue: &Queue) -> bool {
    let started = Instant::now();
    while queue.depth().await.unwrap().messages > 0 {
        if started.elapsed() > Duration::from_secs(5) {
            return false;
        }
        queue.wait().await;
    }
    queue.receive(9).await.unwrap().is_empty()
}
