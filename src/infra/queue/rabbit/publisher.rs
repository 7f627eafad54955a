//! Publishing, until the broker has confirmed.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, poll_immediate},
};
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::timeout;

use super::{
    link::{Link, bounded, unavailable},
    parcel::Parcel,
    topology::short,
};
use crate::error::Result;

/// Messages that are under way without a confirmation: enough to make waiting cheap, few enough to stay short.
const WINDOW: usize = 200;
/// Bytes of the same.
const WINDOW_BYTES: usize = 4 << 20;
/// Time in which the broker confirms at least one message. One that is short of memory or disk stops reading and confirms
/// nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes over a connection of its own: a broker that is short of memory blocks those that publish, and
/// acknowledgements must not be held up with them.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Arc<Link>,
    /// Channels without anything under way.
    idle: Mutex<Vec<Channel>>,
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, idle: Mutex::default() }
    }

    /// Returns when the broker has confirmed every message; after an error it is not known which of them it has.
    pub(super) async fn publish(&self, parcels: &[Parcel<'_>]) -> Result<()> {
        // A channel belongs to one publication at a time, and only after a success to the next: returned messages and
        // confirmations can then be those of nobody else.
        let channel = self.channel().await?;
        self.publish_over(&channel, parcels).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        Ok(())
    }

    async fn publish_over(&self, channel: &Channel, parcels: &[Parcel<'_>]) -> Result<()> {
        let mut window = Window::default();
        for parcel in parcels {
            while window.has_no_room_for(parcel) {
                let half = window.under_way.len() / 2;
                self.confirm(window.keep(half)).await?;
            }
            let mut sending = send(channel, parcel).boxed();
            // Asked once, the library puts the message behind those before it. Its answer comes only when the message is written:
            // waited for one by one, each of them would be written by itself.
            match poll_immediate(&mut sending).await {
                None => window.add(sending, parcel),
                Some(outcome) => self.judge(outcome).await?,
            }
        }
        self.confirm(window.keep(0)).await
    }

    /// Waits for all of these, the last one first: when it is confirmed, so are nearly all others, each of which would have
    /// woken this task to send one more message.
    async fn confirm(&self, mut sent: Vec<Sending<'_>>) -> Result<()> {
        while let Some(mut last) = sent.pop() {
            let outcome = loop {
                if let Ok(outcome) = timeout(PATIENCE, &mut last).await {
                    break outcome;
                }
                // A slow broker has confirmed some of the others meanwhile.
                let (before, others) = (sent.len(), std::mem::take(&mut sent));
                for mut sending in others {
                    match poll_immediate(&mut sending).await {
                        Some(outcome) => self.judge(outcome).await?,
                        None => sent.push(sending),
                    }
                }
                if sent.len() == before {
                    let late = lapin::Error::from(io::Error::from(io::ErrorKind::TimedOut));
                    // What was not written yet would follow its channel's end, which is an error to the broker.
                    self.link.distrust_after(&late).await;
                    return Err(unavailable(late));
                }
            };
            self.judge(outcome).await?;
        }
        Ok(())
    }

    async fn judge(&self, outcome: lapin::Result<Confirmation>) -> Result<()> {
        match outcome.map_err(unavailable)? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) => {
                let key = returned.routing_key.to_string();
                self.link.distrust().await;
                Err(unavailable(anyhow!("no queue takes messages with the routing key {key}")))
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err(unavailable(anyhow!("the broker refused a message")))
            }
        }
    }

    async fn channel(&self) -> Result<Channel> {
        while let Some(channel) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.link.channel().await?;
        bounded(channel.confirm_select(ConfirmSelectOptions::default())).await.map_err(unavailable)?;
        Ok(channel)
    }
}

/// A message on its way, until it is confirmed.
type Sending<'a> = BoxFuture<'a, lapin::Result<Confirmation>>;

/// Messages that are not confirmed yet, oldest first, each with its bytes.
#[derive(Default)]
struct Window<'a> {
    under_way: VecDeque<(Sending<'a>, usize)>,
    bytes: usize,
}

impl<'a> Window<'a> {
    fn has_no_room_for(&self, parcel: &Parcel<'_>) -> bool {
        let is_too_large = self.bytes + parcel.bytes().len() > WINDOW_BYTES;
        self.under_way.len() >= WINDOW || (is_too_large && !self.under_way.is_empty())
    }

    fn add(&mut self, sending: Sending<'a>, parcel: &Parcel<'_>) {
        self.under_way.push_back((sending, parcel.bytes().len()));
        self.bytes += parcel.bytes().len();
    }

    /// Takes out all but so many, the oldest first.
    fn keep(&mut self, count: usize) -> Vec<Sending<'a>> {
        let taken: Vec<_> = self.under_way.drain(..self.under_way.len().saturating_sub(count)).collect();
        self.bytes -= taken.iter().map(|(_, bytes)| bytes).sum::<usize>();
        taken.into_iter().map(|(sending, _)| sending).collect()
    }
}

async fn send(channel: &Channel, parcel: &Parcel<'_>) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, routing_key) = (short(&parcel.exchange), short(&parcel.routing_key));
    channel.basic_publish(exchange, routing_key, options, parcel.bytes(), parcel.properties()).await?.await
}
