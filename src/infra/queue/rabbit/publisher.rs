//! Publishing, until the broker has confirmed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use tokio::time::timeout;

use super::{
    link::{Link, bounded, unavailable},
    topology::short,
};
use crate::error::Result;

/// Messages that are under way without a confirmation: enough to make waiting cheap, few enough to stay short.
const WINDOW: usize = 200;
/// Bytes of the same.
const WINDOW_BYTES: usize = 4 << 20;
/// What the broker may take for the next message, or confirmation. One that is short of memory or disk stops reading and confirms nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Header with the key of a message.
pub(super) const KEY: &str = "key";
/// Header with the number of attempts before.
pub(super) const ATTEMPTS: &str = "attempts";

/// Header with what the first publisher was doing.
pub(super) const CAUSE: &str = "traceparent";

/// A message with its address.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) key: &'a str,
    pub(super) body: &'a str,
    pub(super) attempts: u32,
    /// When it was first published, in Unix seconds.
    pub(super) published: u64,
    pub(super) cause: Option<&'a str>,
}

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
        let mut window = Window::default();
        for parcel in parcels {
            while window.has_no_room_for(parcel) {
                self.confirm(&mut window).await?;
            }
            timeout(PATIENCE, send(&channel, &mut window, parcel)).await.map_err(unavailable)??;
        }
        while !window.under_way.is_empty() {
            self.confirm(&mut window).await?;
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        Ok(())
    }

    /// Waits for the oldest confirmation.
    async fn confirm(&self, window: &mut Window) -> Result<()> {
        let Some((confirmation, bytes)) = window.under_way.pop_front() else { return Ok(()) };
        window.bytes -= bytes;
        match timeout(PATIENCE, confirmation).await.map_err(unavailable)?.map_err(unavailable)? {
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

/// Messages that were sent and are not confirmed, oldest first, each with its bytes.
#[derive(Default)]
struct Window {
    under_way: VecDeque<(PublisherConfirm, usize)>,
    bytes: usize,
}

impl Window {
    fn has_no_room_for(&self, parcel: &Parcel<'_>) -> bool {
        let is_too_large = self.bytes + parcel.body.len() > WINDOW_BYTES;
        self.under_way.len() >= WINDOW || (is_too_large && !self.under_way.is_empty())
    }
}

async fn send(channel: &Channel, window: &mut Window, parcel: &Parcel<'_>) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, routing_key) = (short(&parcel.exchange), short(&parcel.routing_key));
    let body = parcel.body.as_bytes();
    let sent = channel.basic_publish(exchange, routing_key, options, body, parcel.properties()).await;
    window.under_way.push_back((sent.map_err(unavailable)?, body.len()));
    window.bytes += body.len();
    Ok(())
}

impl Parcel<'_> {
    fn properties(&self) -> BasicProperties {
        const PERSISTENT: u8 = 2;
        let mut headers = FieldTable::default();
        headers.insert(short(KEY), AMQPValue::LongString(LongString::from(self.key)));
        headers.insert(short(ATTEMPTS), AMQPValue::LongLongInt(self.attempts.into()));
        if let Some(cause) = self.cause {
            headers.insert(short(CAUSE), AMQPValue::LongString(LongString::from(cause)));
        }
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(short("application/json"))
            .with_timestamp(self.published)
            .with_headers(headers)
    }
}
