//! Which partitions a consumer has: its share of them, and what is left of those that a former configuration had.

use std::sync::Arc;

use lapin::{
    Channel, ErrorKind,
    options::{BasicCancelOptions, BasicConsumeOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tokio::time::sleep;
use tracing::{debug, info};

use super::{Consumer, Kind};
use crate::{
    error::Result,
    infra::queue::{
        HOLD,
        rabbit::{
            link::{bounded, unavailable},
            topology::short,
        },
    },
};

impl Consumer {
    /// Consumes what is left in the partitions of a configuration that had more of them. They stay, for a rung of the ladder or
    /// a process of that configuration may still fill them; whoever wants to be rid of them deletes them when they are empty,
    /// from the last number down.
    pub(super) async fn find_former(self: Arc<Self>, first: u16) {
        let mut number = first;
        while !self.stop.is_cancelled() {
            let queue = self.shared.topology.partition(self.topic, number);
            match self.exists(&queue).await {
                Ok(true) => {
                    info!(queue, "a partition of a former configuration is emptied as well");
                    self.add(queue, self.prefetch(), Kind::Former);
                    let Some(next) = number.checked_add(1) else { return };
                    number = next;
                }
                Ok(false) => return,
                Err(_) => self.rest().await,
            }
        }
    }

    pub(super) async fn exists(&self, queue: &str) -> Result<bool> {
        let channel = self.shared.consuming.channel().await?;
        let missing = |error: &lapin::Error| match error.kind() {
            ErrorKind::ProtocolError(error) => *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND),
            _ => false,
        };
        match self.shared.look_at(&channel, queue).await {
            Ok(_) => Ok(true),
            Err(error) if missing(&error) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Gives up what is more than a share. The consumers are counted by a queue from which each of them consumes and to
    /// which nobody publishes; those that have less than they should, by another one.
    pub(super) async fn keep_balance(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            if let Ok(channel) = self.shared.consuming.channel().await {
                if let Err(error) = self.balance(&channel).await {
                    debug!(%error, "the consumers cannot be counted; trying again");
                    self.shared.consuming.distrust_after(&error).await;
                }
                let _ = bounded(channel.close(200, short("OK"))).await;
            }
            self.rest().await;
        }
    }

    async fn balance(&self, channel: &Channel) -> lapin::Result<()> {
        let topology = &self.shared.topology;
        let (presence, wanting) = (topology.presence(self.topic), topology.wanting(self.topic));
        let options = BasicConsumeOptions::default();
        let consume = |queue: &str| channel.basic_consume(short(queue), short(""), options, FieldTable::default());
        let _present = bounded(consume(&presence)).await?;
        let mut wants: Option<lapin::Consumer> = None;
        loop {
            // Not all at the same time: who gives up looks at what the others have by then.
            let pause = self.shared.rebalance.mul_f64(0.5 + fastrand::f64());
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Ok(());
            }
            let consumers = self.shared.look_at(channel, &presence).await?.consumer_count();
            let is_wanted = self.shared.look_at(channel, &wanting).await?.consumer_count() > 0;
            let is_short = {
                let mut held = self.shelf();
                held.give_up(HOLD);
                held.balance(usize::try_from(consumers).unwrap_or(1), is_wanted)
            };
            match wants.take() {
                None if is_short => wants = Some(bounded(consume(&wanting)).await?),
                Some(consumer) if !is_short => {
                    bounded(channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
                }
                other => wants = other,
            }
        }
    }
}
