//! The store on a Redis server, version 7 or newer.

mod bell;
mod link;
mod script;

use std::{sync::Arc, time::Duration};

use chrono::Duration as Span;
use redis::cmd;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::link::{Link, Repeat};
use super::{Bell, Limit, Rate};
use crate::{error::Result, infra::resilience::Circuit};

#[derive(Debug)]
pub(super) struct Redis {
    link: Arc<Link>,
    /// Key of the highest fence. One for all locks: so there is nothing that would have to expire.
    fences: String,
    /// Told when the last handle is gone.
    ended: CancellationToken,
    _end: DropGuard,
}

impl Redis {
    pub(super) async fn open(url: &str, namespace: &str) -> Result<Self> {
        let link = Link::new(url)?;
        link.look().await;
        let ended = CancellationToken::new();
        Ok(Self { link, fences: format!("{namespace}:fence"), _end: ended.clone().drop_guard(), ended })
    }

    /// Carries the rings of a bell to other processes, and theirs to it, for as long as this is kept.
    pub(super) fn connect_bell(&self, channel: String, bell: &Bell) {
        let wire = bell::Wire::new(Arc::clone(&self.link), channel, bell.clone());
        let ended = self.ended.clone();
        tokio::spawn(async move { ended.run_until_cancelled(async { tokio::join!(wire.hear(), wire.carry()) }).await });
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.link.ask(cmd("GET").arg(key), Repeat::Once).await
    }

    pub(super) async fn set(&self, key: &str, value: &[u8], ttl: Span) -> Result<()> {
        let mut command = cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(ttl.num_milliseconds());
        self.link.ask(&command, Repeat::Once).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<bool> {
        self.link.ask(cmd("DEL").arg(key), Repeat::Never).await
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.link.ask(cmd("GETDEL").arg(key), Repeat::Never).await
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Span,
    ) -> Result<bool> {
        let command = script::compare_and_set(key, expected, value, ttl.num_milliseconds());
        self.link.ask(&command, Repeat::Never).await
    }

    pub(super) async fn lock(&self, key: &str, owner: &str, ttl: Span) -> Result<Option<u64>> {
        let command = script::lock(key, &self.fences, owner, ttl.num_milliseconds());
        let fence: u64 = self.link.ask(&command, Repeat::Once).await?;
        Ok((fence > 0).then_some(fence))
    }

    pub(super) async fn renew(&self, key: &str, owner: &str, fence: u64, ttl: Span) -> Result<bool> {
        self.link.ask(&script::renew(key, owner, fence, ttl.num_milliseconds()), Repeat::Once).await
    }

    pub(super) async fn release(&self, key: &str, owner: &str, fence: u64) -> Result<bool> {
        self.link.ask(&script::release(key, owner, fence), Repeat::Never).await
    }

    pub(super) async fn rate(&self, key: &str, limit: Limit, cost: u32) -> Result<Rate> {
        let (is_allowed, remaining, wait): (bool, u32, u64) =
            self.link.ask(&script::rate(key, limit, cost), Repeat::Never).await?;
        Ok(Rate { is_allowed, remaining, retry_after: Duration::from_micros(wait) })
    }

    pub(super) fn circuit(&self) -> &Circuit {
        self.link.circuit()
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.link.ask(&cmd("PING"), Repeat::Once).await
    }
}
