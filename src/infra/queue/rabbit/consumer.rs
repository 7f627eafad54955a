//! Consuming: one task for each queue, which opens its channel, takes in what comes, and opens it again when it has failed.
//!
//! **Order.** Of a partition the broker lets one consumer be active, and the next only when that one is gone. So all messages
//! of a key pass through one process at a time, and there [`Shelf`] lets no two batches with the same key out at once. The
//! broker gives all partitions to whoever comes first and never moves one by itself; therefore a consumer that is active on
//! more than its share gives one up from time to time (to whoever is next in line, who may have to give it on): it finishes
//! what it works on and closes the channel. Closing returns
//! what was not handed out to its old place before the next consumer begins. (Cancelling instead would let the next one
//! begin while messages are still out; that is why each lane has a channel of its own.)
//!
//! **Poison.** What a consumer holds when its connection ends is counted by the broker. A message beyond the limit goes to the
//! suspects, with those that happened to be fetched beside it. Suspects are handed out one at a time: the innocent ones are
//! done then, and the guilty one, alone now, reaches the limit again and ends as a dead letter. What shares a message of the
//! broker is taken apart first.

mod partitions;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use futures_util::StreamExt;
use lapin::{
    Channel,
    message::Delivery as Incoming,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Shared,
    link::{bounded, unavailable},
    parcel::{Content, Parcel, unpack},
    shelf::{Held, Shelf},
    topology::short,
};
use crate::{
    error::Result,
    infra::queue::{Delivery, HOLD, Receipt, Settlement, Topic},
    telemetry::Outage,
};

/// Messages that are held of a partition where each takes minutes: the last of them must not wait for the half hour after
/// which the broker takes it for lost.
const SLOW_PREFETCH: u16 = 8;
/// Messages that are held of those that are large, each of which may have a megabyte and more.
const LARGE_PREFETCH: u16 = 8;
/// Messages that a lane takes in at one look.
const CHUNK: usize = 64;
/// Between two looks of a lane, unless there was more than it could take: under load the broker's messages come one by one, and
/// each would wake the lane and those who work. After a pause the first message is taken in at once.
const BREATH: Duration = Duration::from_millis(5);
/// Silence after which a lane looks whether its channel is still open.
const CHECK: Duration = Duration::from_secs(5);
/// Fewest and most milliseconds before a lane that failed tries again. (The link paces attempts to connect.)
const REST: std::ops::Range<u64> = 200..800;

#[derive(Debug)]
pub(super) struct Consumer {
    shared: Arc<Shared>,
    topic: Topic,
    bell: Arc<Notify>,
    stop: CancellationToken,
    shelf: Mutex<Shelf<Channel>>,
    /// Held from the choice of acknowledgements until they are sent: they count on each other's order.
    telling: tokio::sync::Mutex<()>,
    outage: Mutex<Outage>,
}

/// What a lane consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A partition, which the consumers share out among them.
    Shared,
    /// A partition that the configuration has no more, until somebody deletes it. It is nobody's share: counted as one it
    /// would stand for work that there hardly is.
    Former,
    /// A queue of which each consumer takes what it can.
    Everybodys,
}

impl Consumer {
    pub(super) fn start(shared: Arc<Shared>, topic: Topic, bell: Arc<Notify>, stop: CancellationToken) -> Arc<Self> {
        let consumer = Arc::new(Self {
            shared,
            topic,
            bell,
            stop,
            shelf: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            outage: Mutex::default(),
        });
        let (topology, partitions) = (&consumer.shared.topology, consumer.shared.topology.partitions);
        for number in 0..partitions {
            consumer.add(topology.partition(topic, number), consumer.prefetch(), Kind::Shared);
        }
        consumer.add(topology.large(topic), consumer.prefetch().min(LARGE_PREFETCH), Kind::Everybodys);
        consumer.add(topology.suspects(topic), 1, Kind::Everybodys);
        tokio::spawn(Arc::clone(&consumer).find_former(partitions));
        tokio::spawn(Arc::clone(&consumer).keep_balance());
        consumer
    }

    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf<Channel>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefetch(&self) -> u16 {
        let most = self.shared.prefetch;
        if self.topic.has_series() { most } else { most.min(SLOW_PREFETCH) }
    }

    fn add(self: &Arc<Self>, queue: String, prefetch: u16, kind: Kind) {
        let (lane, leave) = self.shelf().add(kind == Kind::Shared);
        let consumer = Arc::clone(self);
        tokio::spawn(async move {
            while !consumer.stop.is_cancelled() {
                if let Err(error) = consumer.session(lane, &queue, prefetch, &leave).await {
                    if kind == Kind::Former && matches!(consumer.exists(&queue).await, Ok(false)) {
                        info!(queue, "a partition of a former configuration is gone");
                        return;
                    }
                    if consumer.outage().fails() {
                        warn!(error = error.chain(), queue, "the broker delivers nothing; trying again");
                    }
                    // A queue may be missing; it is declared again then.
                    consumer.shared.consuming.distrust().await;
                    consumer.rest().await;
                }
            }
        });
    }

    /// Takes in the messages of a queue until it leaves, is told to stop, or fails.
    async fn session(&self, lane: usize, queue: &str, prefetch: u16, leave: &Notify) -> Result<()> {
        let channel = self.shared.consuming.channel().await?;
        let most = usize::from(prefetch).clamp(1, CHUNK);
        // Not given up half-way when it is told to stop: the library would keep what nobody has a handle of.
        let mut stream = match open(&channel, queue, prefetch).await {
            Ok(stream) => stream.ready_chunks(most),
            Err(error) => {
                self.shared.consuming.distrust_after(&error).await;
                return Err(unavailable(error));
            }
        };
        self.shelf().open(lane, channel.clone());
        if self.outage().works() {
            info!("the broker delivers again");
        }
        let mut next_look = Instant::now();
        let outcome = loop {
            let incoming = async {
                if Instant::now() < next_look {
                    sleep_until(next_look).await;
                }
                stream.next().await
            };
            tokio::select! {
                incoming = incoming => {
                    let is_full = incoming.as_ref().is_some_and(|incoming| incoming.len() == most);
                    next_look = Instant::now() + if is_full { Duration::ZERO } else { BREATH };
                    let taken = match incoming {
                        Some(incoming) => self.take_in(lane, queue, &channel, incoming).await,
                        None => Err(unavailable(anyhow!("the broker ended the consumption of {queue}"))),
                    };
                    if taken.is_err() {
                        break taken;
                    }
                }
                () = leave.notified() => {
                    // What is finished has been told to the broker when nobody is telling.
                    let _telling = self.telling.lock().await;
                    if self.shelf().may_leave(lane) {
                        break Ok(());
                    }
                }
                () = self.stop.cancelled() => break Ok(()),
                // A connection that breaks while consumption begins may never tell the stream.
                () = sleep(CHECK) => if !channel.status().connected() {
                    break Err(unavailable(anyhow!("the channel of {queue} is closed")));
                },
            }
        };
        self.shelf().close(lane);
        // Before the stream is dropped, which would cancel the consumption first. A channel that is dead is closed already.
        let _ = bounded(channel.close(200, short("OK"))).await;
        drop(stream);
        outcome
    }

    async fn take_in(
        &self,
        lane: usize,
        queue: &str,
        channel: &Channel,
        incoming: Vec<lapin::Result<Incoming>>,
    ) -> Result<()> {
        let is_suspect = queue == self.shared.topology.suspects(self.topic);
        let (mut outcome, mut foreign) = (Ok(()), Vec::new());
        for incoming in incoming {
            match incoming.map(|incoming| (unpack(&incoming), incoming)) {
                Ok((messages, incoming)) if messages.is_empty() => {
                    self.shelf().refuse(lane, incoming.delivery_tag);
                    foreign.push(incoming);
                }
                Ok((messages, incoming)) if is_suspect && messages.len() > 1 => {
                    self.take_apart(&messages, channel, &incoming).await?;
                }
                Ok((messages, incoming)) => self.shelf().arrive(lane, incoming.delivery_tag, messages),
                Err(error) => outcome = Err(unavailable(error)),
            }
        }
        self.bell.notify_one();
        for incoming in foreign {
            warn!(queue = %incoming.routing_key, "a message that is not ours goes to the dead letters");
            match bounded(incoming.acker.reject(BasicRejectOptions { requeue: false })).await {
                Ok(_) => self.shelf().refused(lane, incoming.delivery_tag),
                // Its channel is dead, or ends with it.
                Err(error) => debug!(%error, "a message was not refused; it comes again"),
            }
        }
        outcome
    }

    /// Puts what came together among the suspects one by one, so that the guilty one can be told from the others. Keeps it
    /// for as long as they cannot be published: the channel's end would count as a death that it caused.
    async fn take_apart(&self, messages: &[Held], channel: &Channel, incoming: &Incoming) -> Result<()> {
        let parcels: Vec<Parcel<'_>> = messages
            .iter()
            .map(|message| Parcel {
                exchange: self.shared.topology.poison(),
                routing_key: incoming.routing_key.to_string(),
                content: Content::One { key: &message.key, body: &message.body, attempts: message.attempts },
                published: message.published,
                cause: message.cause.as_deref(),
            })
            .collect();
        while let Err(error) = self.shared.publisher.publish(&parcels).await {
            if self.stop.is_cancelled() || !channel.status().connected() {
                return Err(error);
            }
            self.rest().await;
        }
        bounded(incoming.acker.ack(BasicAckOptions::default())).await.map(drop).map_err(unavailable)
    }

    /// What became of deliveries is told to the broker; where it is to wait, only after it is safe there.
    pub(super) async fn settle(&self, settlements: Vec<(Delivery, Settlement)>) -> Result<()> {
        let topology = &self.shared.topology;
        let (mut done, mut moves) = (Vec::new(), Vec::new());
        {
            let mut held = self.shelf();
            for (delivery, settlement) in settlements {
                let Receipt::Tag(tag) = delivery.receipt else { continue };
                let Some(out) = held.find(tag) else {
                    // Its channel is gone: the broker delivers it again, whatever became of it.
                    done.push(tag);
                    continue;
                };
                let published = out.published;
                match settlement {
                    Settlement::Ack => done.push(tag),
                    // The broker would take a message that is kept for longer for lost, and count that.
                    Settlement::Release if out.arrived.elapsed() > HOLD => {
                        moves.push((tag, topology.exchange(), delivery.attempts, published, delivery));
                    }
                    Settlement::Release => held.put_back(delivery),
                    Settlement::Retry(pause) => {
                        let attempts = delivery.attempts.saturating_add(1);
                        moves.push((tag, topology.retry(pause), attempts, published, delivery));
                    }
                }
            }
        }
        let parcels: Vec<Parcel<'_>> = moves
            .iter()
            .map(|(_, exchange, attempts, published, delivery)| Parcel {
                exchange: exchange.clone(),
                routing_key: topology.route(self.topic, &delivery.key, delivery.body.len()),
                content: Content::One { key: &delivery.key, body: &delivery.body, attempts: *attempts },
                published: *published,
                cause: delivery.cause.as_deref(),
            })
            .collect();
        let outcome = if parcels.is_empty() { Ok(()) } else { self.shared.publisher.publish(&parcels).await };
        drop(parcels);
        for (tag, _, _, _, delivery) in moves {
            if outcome.is_ok() { done.push(tag) } else { self.shelf().put_back(delivery) }
        }
        let telling = self.telling.lock().await;
        let acknowledgements = self.shelf().finish(&done);
        for told in acknowledgements {
            let options = BasicAckOptions { multiple: told.multiple };
            if let Err(error) = bounded(told.channel.basic_ack(told.number, options)).await {
                // The channel died meanwhile: the broker delivers it again.
                debug!(%error, "an acknowledgement was not sent");
                self.shared.consuming.distrust_after(&error).await;
            }
        }
        drop(telling);
        if self.shelf().has_waiting() {
            self.bell.notify_one();
        }
        outcome
    }

    async fn rest(&self) {
        let _ = self.stop.run_until_cancelled(sleep(Duration::from_millis(fastrand::u64(REST)))).await;
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Asks for the figures of a queue. When it does not exist the channel is closed.
    pub(super) async fn look_at(&self, channel: &Channel, queue: &str) -> lapin::Result<lapin::Queue> {
        let options = QueueDeclareOptions::durable().passive();
        bounded(channel.queue_declare(short(queue), options, FieldTable::default())).await
    }
}

async fn open(channel: &Channel, queue: &str, prefetch: u16) -> lapin::Result<lapin::Consumer> {
    bounded(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    bounded(channel.basic_consume(short(queue), short(""), options, FieldTable::default())).await
}
