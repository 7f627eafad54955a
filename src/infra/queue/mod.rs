//! The queue between the stream readers and the processors, one for each [`Topic`].
//!
//! It is a table of the database (`embedded`) or RabbitMQ (`rabbit`). Both promise, and `tests/it/queue.rs` holds both to it:
//!
//! - a message is durable when [`Queue::publish`] returns; after an error nobody knows, and it is published again;
//! - it is delivered at least once, and may be delivered again at any time until it is acknowledged;
//! - messages of one key are delivered in the order they were published, one batch at a time, also with several consumers,
//!   unless one of them is retried: while it waits, later ones of its key may overtake it. So may they overtake one that is
//!   given back later than [`HOLD`] after it was taken, one whose consumer lost its connection while working on it, and one that
//!   was published before the number of partitions changed. (The reader decides by the repository's revision, not by the
//!   order of arrival: order spares it work, nothing more.)
//! - a consumer that dies gives its messages back.

mod embedded;
mod rabbit;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

pub use self::rabbit::{Broker, BrokerSettings};
use self::{embedded::Embedded, rabbit::Rabbit};
use crate::{
    error::Result,
    infra::{clock::Clock, db::Db},
};

/// How often a consumer looks for what another process has published.
const POLL: Duration = Duration::from_millis(250);
/// Bytes that one consumer is handed at once; a single message may be larger.
const BYTES: usize = 4 << 20;
/// How long a consumer may keep a message of RabbitMQ; far longer than any work takes, and shorter than the half hour after
/// which the broker itself takes a message for lost.
pub const HOLD: Duration = Duration::from_mins(10);

/// What a queue is for. Topics know nothing of each other: what is slow in one holds up nothing in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Messages of the streams.
    Records,
    /// Requests to read a repository again.
    Resyncs,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Records, Self::Resyncs];

    /// The name; also a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Resyncs => "resyncs",
        }
    }

    /// How long a consumer of the embedded queue has for a delivery before another one may take it over.
    pub fn lease(self) -> Duration {
        match self {
            Self::Records => Duration::from_secs(10),
            Self::Resyncs => Duration::from_mins(4),
        }
    }

    /// Whether a batch may hold several messages of one key. Where each takes long, it may not: they are worked on at the
    /// same time.
    fn has_series(self) -> bool {
        match self {
            Self::Records => true,
            Self::Resyncs => false,
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
    receipt: Receipt,
    /// Key it was published with.
    pub key: String,
    /// What it says.
    pub body: String,
    /// Deliveries before this one that ended in a retry.
    pub attempts: u32,
}

/// By what an implementation knows a delivery again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receipt {
    Row(i64),
    Tag(rabbit::Tag),
}

/// What is to become of a delivery. Consumed together with it, so that nothing can be settled twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done; never deliver it again.
    Ack,
    /// Deliver it again after the pause, counted as an attempt. RabbitMQ rounds the pause up to the next rung of its ladder,
    /// and one above the last rung down to it.
    Retry(Duration),
    /// Deliver it again as if this delivery had not been.
    Release,
    /// Given up; never deliver it again. RabbitMQ keeps it in the dead-letter queue. The embedded queue has none: who gives
    /// up has written the message to the failure list, which is in the same database.
    Bury,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are not settled for good, those that wait for a retry included. Of RabbitMQ, those that other processes
    /// hold at this moment are not counted: the protocol does not tell.
    pub messages: u64,
    /// Age of the oldest of them; of RabbitMQ, of the oldest that this handle holds, since the protocol shows no other.
    pub oldest: Duration,
    /// Dead letters that wait for a person: buried ones, and those that their consumers died of. Always 0 in the embedded queue.
    pub dead: u64,
}

/// A queue. Cheap to clone; a handle with its clones is one consumer, from its first [`Queue::receive`] on, and gives back
/// what it holds when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Queue {
    topic: Topic,
    bell: Arc<Notify>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Table(Embedded),
    Broker(Rabbit),
}

impl Queue {
    /// The table of a database as a queue.
    pub fn embedded(db: Db, clock: Clock, topic: Topic) -> Self {
        let place = Place::Table(Embedded::new(db, clock, topic));
        Self { topic, bell: Arc::new(Notify::new()), place }
    }

    /// The queues of a broker. Needs the runtime from the first [`Queue::receive`] on.
    pub fn rabbit(broker: &Broker, clock: Clock, topic: Topic) -> Self {
        let bell = Arc::new(Notify::new());
        Self { topic, place: Place::Broker(Rabbit::new(broker, clock, topic, Arc::clone(&bell))), bell }
    }

    /// Stores messages for good and wakes a consumer.
    ///
    /// Errors: [`Unavailable`](crate::error::Error::Unavailable). Some of the messages may have been stored then; all are
    /// to be published again.
    pub async fn publish(&self, messages: Vec<Message>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        match &self.place {
            Place::Table(table) => table.publish(&messages).await?,
            Place::Broker(rabbit) => rabbit.publish(&messages).await?,
        }
        self.bell.notify_one();
        Ok(())
    }

    /// Takes up to `limit` messages that are due; empty when there is none.
    pub async fn receive(&self, limit: u64) -> Result<Vec<Delivery>> {
        match &self.place {
            Place::Table(table) => table.receive(limit).await,
            Place::Broker(rabbit) => Ok(rabbit.receive(limit)),
        }
    }

    /// Ends deliveries. One that has been taken from this consumer meanwhile is left to whoever holds it.
    ///
    /// After an error what was not settled comes again.
    pub async fn settle(&self, settlements: Vec<(Delivery, Settlement)>) -> Result<()> {
        match &self.place {
            Place::Table(table) => table.settle(&settlements).await,
            Place::Broker(rabbit) => rabbit.settle(settlements).await,
        }
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
        match &self.place {
            Place::Table(table) => table.depth().await,
            Place::Broker(rabbit) => rabbit.depth().await,
        }
    }
}
