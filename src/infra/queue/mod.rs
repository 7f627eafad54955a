//! The queue between the stream readers and the processors, one for each [`Topic`].
//!
//! It is a table of the database (`embedded`) or RabbitMQ (`rabbit`). Both promise, and `tests/it/queue.rs` holds both to it:
//!
//! - a message is durable when [`Queue::publish`] returns; after an error nobody knows, and it is published again;
//! - it is delivered at least once, and may be delivered again at any time until it and all that was published together with it
//!   are acknowledged;
//! - messages of one key are delivered in the order they were published, one batch at a time, also with several consumers,
//!   unless one of them is retried: while it waits, later ones of its key may overtake it. So may they overtake one that is
//!   given back later than [`HOLD`] after it was taken, one whose consumer lost its connection while working on it, one that
//!   is larger than 64 KB, one that comes again though it is done, and one that was published before the number of partitions
//!   changed. (The reader decides by the repository's revision, not by the order of arrival: order spares it work, nothing more.)
//! - a consumer that dies gives its messages back;
//! - a message that its consumers die of does not come back for ever: beyond [`DELIVERY_LIMIT`] it is a suspect, of which one is
//!   handed out at a time, and beyond as much again it is a [`DeadLetter`].

mod embedded;
mod rabbit;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

pub use self::rabbit::{Broker, BrokerSettings, partition_of};
use self::{embedded::Embedded, rabbit::Rabbit};
use crate::{
    error::Result,
    infra::{clock::Clock, db::Db},
    telemetry::traceparent,
};

/// How often a consumer looks for what another process has published.
const POLL: Duration = Duration::from_millis(250);
/// Bytes that one consumer is handed at once; a single message may be larger.
const BYTES: usize = 4 << 20;
/// How long a consumer may keep a message of RabbitMQ; far longer than any work takes, and shorter than the half hour after
/// which the broker itself takes a message for lost.
pub const HOLD: Duration = Duration::from_mins(10);

/// How often a message may be in the hands of a consumer that is lost, before it is suspected; and as often again alone,
/// before it is a dead letter. Deployments cut off consumers too, hence not two or three.
pub const DELIVERY_LIMIT: u32 = 20;

/// The ladder: pauses before what failed is tried again, as often as there are rungs, and one time more.
pub const RUNGS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(8),
    Duration::from_mins(32),
    Duration::from_hours(2),
];

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
    /// What its publisher was doing, as a [`traceparent`](crate::telemetry::traceparent()); none where nobody traces.
    pub cause: Option<String>,
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
    /// Done.
    Ack,
    /// Deliver it again after the pause, counted as an attempt. RabbitMQ rounds the pause up to the next rung of its ladder,
    /// and one above the last rung down to it.
    Retry(Duration),
    /// Deliver it again as if this delivery had not been.
    Release,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are not settled for good, those that wait for a retry included. Of RabbitMQ, those that other processes
    /// hold at this moment are not counted: the protocol does not tell, so each of them [tells](Queue::holding). Nor does it
    /// tell how many messages share one of the broker's, which may be up to 64: those that nobody holds count as one.
    pub messages: u64,
    /// Those of them that this handle holds. Nought for the table, which tells of all of them to everybody.
    pub held: u64,
    /// Age of the oldest of them, those left out that wait for a retry. Of RabbitMQ only a handle that consumes can tell: the
    /// first message of each partition is in the hands of whoever consumes it, and the protocol shows no other.
    pub oldest: Option<Duration>,
    /// Dead letters that nobody has [taken](Queue::dead_letters) yet.
    pub dead: u64,
}

/// What a handle holds: messages in the hands of its callers, and those that wait there to be handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// How many.
    pub messages: u64,
    /// Age of the oldest of them; `None` for a handle that consumes nothing.
    pub oldest: Option<Duration>,
}

/// A message that the queue has given up: its consumers died of it again and again, or could not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it says; what is not UTF-8 is replaced.
    pub body: String,
    /// Whether it has the form of a message that was published here.
    pub is_ours: bool,
}

/// Dead letters that were taken. They come again, to whoever asks next, unless they are [forgotten](Self::forget): those of
/// the broker when this is dropped, those of the table after the [lease](Topic::lease()).
#[derive(Debug, Default)]
pub struct DeadLetters {
    /// The letters, oldest first.
    pub letters: Vec<DeadLetter>,
    held: Option<Held>,
}

/// Letters that nobody else gets.
#[derive(Debug)]
enum Held {
    Table(Box<embedded::Exhumed>),
    Broker(rabbit::Exhumed),
}

impl DeadLetters {
    /// Deletes them from the queue. After an error they may come again.
    pub async fn forget(self) -> Result<()> {
        match self.held {
            Some(Held::Table(held)) => held.forget().await,
            Some(Held::Broker(held)) => held.forget().await,
            None => Ok(()),
        }
    }
}

/// The queues of a process.
#[derive(Clone, Debug)]
pub struct Queues {
    /// Messages of the streams.
    pub records: Queue,
    /// Requests to read a repository again.
    pub resyncs: Queue,
    /// The broker that they are in; none for the table of the database.
    pub broker: Option<Broker>,
}

impl Queues {
    /// The queue of a topic.
    pub fn of(&self, topic: Topic) -> &Queue {
        match topic {
            Topic::Records => &self.records,
            Topic::Resyncs => &self.resyncs,
        }
    }
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
    pub async fn publish(&self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let cause = traceparent();
        match &self.place {
            Place::Table(table) => table.publish(messages, cause.as_deref()).await?,
            Place::Broker(rabbit) => rabbit.publish(messages, cause.as_deref()).await?,
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

    /// Takes about `limit` dead letters: what was published together is taken together. Whoever asks meanwhile gets others.
    pub async fn dead_letters(&self, limit: usize) -> Result<DeadLetters> {
        match &self.place {
            Place::Table(table) => table.dead_letters(limit).await,
            Place::Broker(rabbit) => rabbit.dead_letters(limit).await,
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

    /// What this handle holds of a broker's messages, without asking anybody; nothing where the [depth](Self::depth) tells it
    /// to everybody.
    pub fn holding(&self) -> Holding {
        match &self.place {
            Place::Table(_) => Holding::default(),
            Place::Broker(rabbit) => rabbit.holding(),
        }
    }

    /// How full the queue is.
    pub async fn depth(&self) -> Result<Depth> {
        match &self.place {
            Place::Table(table) => table.depth().await,
            Place::Broker(rabbit) => rabbit.depth().await,
        }
    }
}
