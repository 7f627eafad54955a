//! The queue on RabbitMQ 3.10 or newer, without plugins. `topology` says what exists in the broker, `consumer` how order and
//! poison are dealt with.
//!
//! Promises beside those of [`Queue`](super::Queue): publishing returns when the broker has every message on the disks of a
//! quorum and in a queue (confirms, mandatory); connections come back by themselves, with everything that was declared; an
//! acknowledgement is never sent for another delivery than its own. Does not promise that two processes never work on the
//! same message at once: a connection that breaks moves its partitions to another process at once, while the one that lost
//! them still finishes.

mod consumer;
mod graveyard;
mod link;
mod parcel;
mod publisher;
mod shelf;
mod topology;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use lapin::uri::AMQPUri;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::topology::partition_of;
use self::{
    consumer::Consumer,
    link::{Link, bounded, unavailable},
    publisher::Publisher,
    topology::{Topology, short},
};
pub(super) use self::{graveyard::Exhumed, shelf::Tag};
use super::{BYTES, DELIVERY_LIMIT, Delivery, Depth, Holding, Message, RUNGS, Settlement, Topic};
use crate::{
    error::{Error, Result},
    infra::{
        clock::Clock,
        resilience::{Circuit, Dependency},
    },
};

/// How often a consumer looks whether it has more than its share.
const REBALANCE: Duration = Duration::from_secs(20);

/// Where the broker is, and how much of it to use.
#[derive(Clone)]
pub struct BrokerSettings {
    /// `amqp://USER:PASSWORD@HOST/VHOST` or `amqps://…`.
    pub url: String,
    /// Name of the exchange, and beginning of the names of everything else.
    pub prefix: String,
    /// Partitions of each topic, the same for all processes: how many consumers can work at the same time.
    pub partitions: u16,
    /// Most messages of the broker, each of which may hold several of ours, that one consumer holds, those that are not handed
    /// out yet included; fewer where each takes minutes, and a few more that are large.
    pub prefetch: u16,
    /// Pauses before a retry, ascending.
    pub rungs: Vec<Duration>,
    /// How often a message may be taken without being settled before it counts as poison.
    pub delivery_limit: u32,
    /// Between two looks at how the partitions are shared among the consumers.
    pub rebalance: Duration,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            url: "amqp://127.0.0.1:5672/%2f".to_owned(),
            prefix: "community.lexicon.calendar".to_owned(),
            partitions: 8,
            prefetch: 500,
            rungs: RUNGS.to_vec(),
            delivery_limit: DELIVERY_LIMIT,
            rebalance: REBALANCE,
        }
    }
}

impl std::fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("BrokerSettings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The connections to a broker: one to publish, one to consume, each opened when it is needed first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    topology: Arc<Topology>,
    publishing: Arc<Link>,
    consuming: Link,
    publisher: Publisher,
    /// Of both connections: they lead to the same server.
    circuit: Circuit,
    /// Of each partition.
    prefetch: u16,
    rebalance: Duration,
}

impl Broker {
    /// Asks nothing of the broker yet, which may be away: whoever needs it then is told so, and it is looked for until it
    /// answers.
    ///
    /// Errors: [`Error::Invalid`] for a URL that cannot be read.
    pub fn open(settings: &BrokerSettings) -> Result<Self> {
        let uri: AMQPUri = settings.url.parse().map_err(|_| {
            Error::invalid("queue.url", "CONFIG_INVALID", "expected amqp://USER:PASSWORD@HOST/VHOST or amqps://…")
        })?;
        let topology = Arc::new(Topology {
            prefix: settings.prefix.clone(),
            partitions: settings.partitions.max(1),
            rungs: settings.rungs.clone(),
            delivery_limit: settings.delivery_limit,
        });
        let publishing = Arc::new_cyclic(|me: &Weak<Link>| {
            let me = me.clone();
            let look = move || Box::pin(link::come_back(me.clone())) as _;
            let circuit = Circuit::looking(Dependency::Broker, link::POLICY, look);
            Link::new(uri.clone(), "publishing", Arc::clone(&topology), circuit)
        });
        let circuit = publishing.circuit().clone();
        let shared = Shared {
            consuming: Link::new(uri, "consuming", Arc::clone(&topology), circuit.clone()),
            circuit,
            publisher: Publisher::new(Arc::clone(&publishing)),
            publishing,
            prefetch: (settings.prefetch / topology.partitions).max(1),
            rebalance: settings.rebalance,
            topology,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether attempts to connect are let through, for loops that wait until they succeed.
    pub fn circuit(&self) -> &Circuit {
        &self.shared.circuit
    }

    /// Succeeds when the broker answers, and has all that is to be there.
    ///
    /// Errors: [`Error::Unavailable`] for one that cannot be reached, does not let us in, or has queues of the same names with
    /// other arguments.
    pub async fn check(&self) -> Result<()> {
        let channel = self.shared.publishing.channel().await?;
        // The broker answers to this too.
        bounded(channel.close(200, short("OK"))).await.map_err(unavailable)
    }
}

/// One consumer or publisher of a topic.
#[derive(Clone, Debug)]
pub(super) struct Rabbit {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    clock: Clock,
    topic: Topic,
    bell: Arc<Notify>,
    /// From the first look for messages on: who only publishes consumes nothing.
    consumer: OnceLock<Arc<Consumer>>,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rabbit {
    pub(super) fn new(broker: &Broker, clock: Clock, topic: Topic, bell: Arc<Notify>) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::clone(&broker.shared);
        Self { inner: Arc::new(Inner { shared, clock, topic, bell, consumer: OnceLock::new(), stop }) }
    }

    pub(super) async fn publish(&self, messages: &[Message], cause: Option<&str>) -> Result<()> {
        let (topic, shared) = (self.inner.topic, &self.inner.shared);
        shared.publisher.publish(&parcel::pack(&shared.topology, topic, messages, (self.now(), cause))).await
    }

    pub(super) fn receive(&self, limit: u64) -> Vec<Delivery> {
        let inner = &self.inner;
        let consumer = inner.consumer.get_or_init(|| {
            let (shared, bell) = (Arc::clone(&inner.shared), Arc::clone(&inner.bell));
            Consumer::start(shared, inner.topic, bell, inner.stop.clone())
        });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut held = consumer.shelf();
        let deliveries = held.take(limit, BYTES, inner.topic.has_series());
        if !deliveries.is_empty() && held.has_waiting() {
            // For whoever else waits: what comes together is told once.
            inner.bell.notify_one();
        }
        deliveries
    }

    pub(super) async fn settle(&self, settlements: Vec<(Delivery, Settlement)>) -> Result<()> {
        // Without a consumer nothing was handed out.
        let Some(consumer) = self.inner.consumer.get() else { return Ok(()) };
        consumer.settle(settlements).await
    }

    pub(super) async fn depth(&self) -> Result<Depth> {
        let Inner { shared, topic, .. } = &*self.inner;
        let channel = shared.publishing.channel().await?;
        let look = async {
            let mut messages = 0;
            for queue in shared.topology.waiting(*topic) {
                messages += u64::from(shared.look_at(&channel, &queue).await?.message_count());
            }
            let dead = shared.look_at(&channel, &shared.topology.graveyard(*topic)).await?.message_count();
            Ok::<_, lapin::Error>((messages, dead))
        };
        let (messages, dead) = match look.await {
            Ok(figures) => figures,
            Err(error) => {
                shared.publishing.distrust_after(&error).await;
                return Err(unavailable(error));
            }
        };
        let Holding { messages: held, oldest } = self.holding();
        Ok(Depth { messages: messages + held, held, oldest, dead: u64::from(dead) })
    }

    pub(super) fn holding(&self) -> Holding {
        let Some(consumer) = self.inner.consumer.get() else { return Holding::default() };
        let (messages, oldest) = consumer.shelf().census();
        let age = oldest.map_or(0, |published| self.now().saturating_sub(published));
        Holding { messages: messages as u64, oldest: Some(Duration::from_secs(age)) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.inner.clock.now().timestamp()).unwrap_or_default()
    }
}
