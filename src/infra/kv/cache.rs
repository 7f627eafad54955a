//! What was asked for a moment ago and need not be asked again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use bytes::Bytes;
use moka::{Expiry, future::Cache};

use crate::error::{Error, Result};

/// Bytes that are kept in memory, keys included.
const CAPACITY: u64 = 32 << 20;

/// Answers in this process's memory. Of several who ask for the same at once, one fetches it and all get the outcome.
#[derive(Clone, Debug)]
pub(super) struct Memory(Cache<String, Kept>);

#[derive(Clone, Debug)]
struct Kept {
    value: Bytes,
    ttl: Duration,
}

/// Every answer lives as long as it was said to.
struct OwnTime;

impl Expiry<String, Kept> for OwnTime {
    fn expire_after_create(&self, _: &String, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(&self, _: &String, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.ttl)
    }
}

impl Memory {
    pub(super) fn new() -> Self {
        let weigh = |key: &String, kept: &Kept| u32::try_from(key.len() + kept.value.len() + 100).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weigh).expire_after(OwnTime).build())
    }

    /// The answer as it is kept, or else as `fetch` brings it, which is then kept for `ttl`. Failures are not kept.
    pub(super) async fn get_or_fetch(
        &self,
        key: String,
        ttl: Duration,
        fetch: impl Future<Output = Result<Bytes>>,
    ) -> Result<Bytes> {
        // Boxed: whoever asks would carry all of it in its own future.
        let fetch = Box::pin(async { fetch.await.map(|value| Kept { value, ttl }) });
        let kept = Box::pin(self.0.try_get_with(key, fetch)).await;
        kept.map(|kept| kept.value).map_err(share)
    }

    /// Keeps an answer for `ttl`, in place of one that is there.
    pub(super) async fn put(&self, key: String, ttl: Duration, value: Bytes) {
        self.0.insert(key, Kept { value, ttl }).await;
    }
}

/// A failure for each of those who have waited for the same answer: alike for callers and queues, its causes as text.
fn share(error: Arc<Error>) -> Error {
    let error = match Arc::try_unwrap(error) {
        Ok(error) => return error,
        Err(shared) => shared,
    };
    let source = anyhow!(error.chain());
    match &*error {
        Error::NotFound { what, key } => Error::NotFound { what, key: key.clone() },
        Error::Unauthenticated { why } => Error::Unauthenticated { why },
        Error::Forbidden { why } => Error::Forbidden { why },
        Error::Invalid { field, code, why } => Error::Invalid { field: field.clone(), code, why: why.clone() },
        Error::Upstream { service, .. } => Error::Upstream { service, source },
        Error::RateLimited { retry_after } => Error::RateLimited { retry_after: *retry_after },
        Error::Unavailable { service, .. } => Error::Unavailable { service, source },
        Error::Bug(_) => Error::Bug(source),
    }
}
