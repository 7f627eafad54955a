//! The queue between the stream readers and the processors, one for each [`Topic`].
//!
//! Promises: a published message is durable when [`Queue::publish`] returns; it is delivered at least once; messages of
//! one key are delivered in the order they were published, one batch at a time, also with several consumers; a consumer
//! that dies gives its messages back when their lease ends. It does not promise that a message comes only once.

mod embedded;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    error::Result,
    infra::{clock::Clock, db::Db},
};

/// How often a consumer looks for what another process has published.
const POLL: Duration = Duration::from_millis(250);

/// What a queue is for. Topics know nothing of each other: what is slow in one holds up nothing in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Messages of the streams.
    Records,
    /// Requests to read a repository again.
    Resyncs,
}

impl Topic {
    /// The name; also a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Resyncs => "resyncs",
        }
    }

    /// How long a consumer has for a delivery before another one may take it over.
    pub fn lease(self) -> Duration {
        match self {
            Self::Records => Duration::from_secs(10),
            Self::Resyncs => Duration::from_mins(4),
        }
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Messages of one key keep their order: the DID.
    pub key: String,
    /// What it says.
    pub body: String,
}

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    id: i64,
    /// Key it was published with.
    pub key: String,
    /// What it says.
    pub body: String,
    /// Deliveries before this one that ended in a retry.
    pub attempts: u32,
}

/// What is to become of a delivery. Consumed together with it, so that nothing can be settled twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done; never deliver it again.
    Ack,
    /// Deliver it again after the pause, counted as an attempt.
    Retry(Duration),
    /// Deliver it again as if this delivery had not been.
    Release,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are not acknowledged.
    pub messages: u64,
    /// Age of the oldest of them.
    pub oldest: Duration,
}

/// The embedded queue: a table of the database. Cheap to clone; every handle made by [`Queue::new`] is one consumer.
#[derive(Clone, Debug)]
pub struct Queue {
    db: Db,
    clock: Clock,
    topic: Topic,
    owner: Arc<str>,
    bell: Arc<Notify>,
}

impl Queue {
    /// Opens the queue.
    pub fn new(db: Db, clock: Clock, topic: Topic) -> Self {
        Self { db, clock, topic, owner: Uuid::now_v7().to_string().into(), bell: Arc::new(Notify::new()) }
    }

    /// Stores messages for good and wakes a consumer.
    pub async fn publish(&self, messages: Vec<Message>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let (now, messages) = (self.clock.now(), &messages);
        self.db.transact(|tx| async move { embedded::insert(&*tx, self.topic, messages, now).await }).await?;
        self.bell.notify_one();
        Ok(())
    }

    /// Takes up to `limit` messages that are due; empty when there is none.
    pub async fn receive(&self, limit: u64) -> Result<Vec<Delivery>> {
        let now = self.clock.now();
        if !embedded::is_any_due(self.db.read(), self.topic, now).await? {
            return Ok(Vec::new());
        }
        self.db.transact(|tx| async move { embedded::lease(&*tx, self.topic, &self.owner, now, limit).await }).await
    }

    /// Ends deliveries. One whose lease has run out and that another consumer has taken is left to it.
    pub async fn settle(&self, settlements: Vec<(Delivery, Settlement)>) -> Result<()> {
        let (now, settlements) = (self.clock.now(), &settlements);
        self.db.transact(|tx| async move { embedded::settle(&*tx, &self.owner, now, settlements).await }).await
    }

    /// Wakes a consumer that waits.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Returns when there may be something to receive.
    pub async fn wait(&self) {
        // A passed time limit is an answer too: look again.
        let _ = tokio::time::timeout(POLL, self.bell.notified()).await;
    }

    /// What the queue is for.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// How full the queue is.
    pub async fn depth(&self) -> Result<Depth> {
        embedded::depth(self.db.read(), self.topic, self.clock.now()).await
    }
}
