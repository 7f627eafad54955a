//! Taking dead letters out of the broker.

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions},
};
use tokio::runtime::Handle;

use super::{
    BYTES, Rabbit,
    link::{bounded, unavailable},
    parcel::unpack,
    topology::short,
};
use crate::{
    error::Result,
    infra::queue::{DeadLetter, DeadLetters, Held},
};

/// Letters in hand, with the channel that they came through; they are back in their queue when it is closed.
#[derive(Debug)]
pub(in crate::infra::queue) struct Exhumed {
    channel: Option<Channel>,
    /// The number of the last of them.
    last: u64,
}

impl Rabbit {
    pub(in crate::infra::queue) async fn dead_letters(&self, limit: usize) -> Result<DeadLetters> {
        let shared = &self.inner.shared;
        let queue = shared.topology.graveyard(self.inner.topic);
        let channel = shared.publishing.channel().await?;
        let mut held = Exhumed { channel: Some(channel.clone()), last: 0 };
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < limit && bytes < BYTES {
            let got = match bounded(channel.basic_get(short(&queue), BasicGetOptions::default())).await {
                Ok(got) => got,
                Err(error) => {
                    shared.publishing.distrust_after(&error).await;
                    return Err(unavailable(error));
                }
            };
            let Some(got) = got else { break };
            let incoming = got.delivery;
            held.last = incoming.delivery_tag;
            bytes += incoming.data.len();
            let messages = unpack(&incoming);
            if messages.is_empty() {
                let body = String::from_utf8_lossy(&incoming.data).into_owned();
                letters.push(DeadLetter { body, is_ours: false });
            }
            letters.extend(messages.into_iter().map(|message| DeadLetter { body: message.body, is_ours: true }));
        }
        Ok(DeadLetters { letters, held: Some(Held::Broker(held)) })
    }
}

impl Exhumed {
    /// Acknowledges all of them.
    pub(in crate::infra::queue) async fn forget(mut self) -> Result<()> {
        let Some(channel) = self.channel.take() else { return Ok(()) };
        if self.last > 0 {
            let all = BasicAckOptions { multiple: true };
            bounded(channel.basic_ack(self.last, all)).await.map_err(unavailable)?;
        }
        // Its answer says that the broker has read what was sent before.
        bounded(channel.close(200, short("OK"))).await.map_err(unavailable)
    }
}

impl Drop for Exhumed {
    fn drop(&mut self) {
        if let (Some(channel), Ok(runtime)) = (self.channel.take(), Handle::try_current()) {
            runtime.spawn(async move { bounded(channel.close(200, short("OK"))).await });
        }
    }
}
