//! Rings between processes, over a channel of the server.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::{aio::PubSub, cmd};
use tokio::time::{sleep, timeout};
use tracing::debug;
use uuid::Uuid;

use super::link::{ANSWER, Link, Repeat, pause};
use crate::infra::kv::Bell;

/// Silence after which the server is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(5);

/// What connects a bell to those of other processes.
pub(super) struct Wire {
    link: Arc<Link>,
    channel: String,
    bell: Bell,
    /// Said with each ring, so that our own are known when they come back.
    name: String,
}

impl Wire {
    pub(super) fn new(link: Arc<Link>, channel: String, bell: Bell) -> Self {
        Self { link, channel, bell, name: Uuid::now_v7().simple().to_string() }
    }

    /// Carries rings out. One that does not get through is carried again, however many times it was rung meanwhile.
    pub(super) async fn carry(&self) {
        let mut command = cmd("PUBLISH");
        command.arg(&self.channel).arg(&self.name);
        loop {
            self.bell.wants_out().await;
            let mut failures = 0;
            while let Err(error) = self.link.ask::<i64>(&command, Repeat::Once).await {
                debug!(error = error.chain(), "a ring was not carried; trying again");
                failures += 1;
                sleep(pause(failures)).await;
            }
        }
    }

    /// Brings in what others ring, from the moment that somebody here listens.
    pub(super) async fn hear(&self) {
        self.bell.is_wanted().await;
        let mut failures = 0;
        loop {
            match self.link.listen(&self.channel).await {
                Ok(listening) => {
                    failures = 0;
                    self.bell.join(true);
                    // What was rung before has gone unheard.
                    self.bell.strike();
                    self.follow(listening).await;
                    self.bell.join(false);
                }
                Err(error) => debug!(error = error.chain(), "rings of other processes are not heard; trying again"),
            }
            failures += 1;
            sleep(pause(failures)).await;
        }
    }

    /// Returns when the connection is no good any more.
    async fn follow(&self, listening: PubSub) {
        let (mut asks, mut rings) = listening.split();
        loop {
            match timeout(SILENCE, rings.next()).await {
                Ok(Some(ring)) if ring.get_payload_bytes() == self.name.as_bytes() => {}
                Ok(Some(_)) => self.bell.strike(),
                Ok(None) => return,
                Err(_) => {
                    if !matches!(timeout(ANSWER, asks.ping::<redis::Value>()).await, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }
}
