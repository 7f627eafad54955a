//! What is shared for a while: values that expire, locks, rate windows, cached answers and the doorbell.
//!
//! One [`Kv`] over two stores. With Redis all of it is shared by every process of the same namespace. Without, values and
//! locks are in tables of the database and shared by its processes, while rates are counted and answers cached by each
//! process for itself, and the doorbell is heard in the process only.
//!
//! Promises, of both stores: a value is gone from its expiry on; [`Kv::take`] gives a value to one taker; a [`Lock`] has one
//! holder at a time by the store's clock, its fence grows over all holders for ever, and nobody but its holder renews or
//! releases it; no window of a [`Limit`] ever holds more than the limit. It is no database: a Redis that is restarted
//! without persistence has forgotten everything but the order of fences, which follow its clock. Sessions at PDSes are kept
//! here for half a year, and for whoever loses one a new sign-in is all that helps: so it should have persistence (an append-only
//! file), and evict nothing, since everything here expires and would be fair game.
//!
//! With Redis an operation answers within a few seconds or fails with `Unavailable`, and while Redis is known to be away it
//! fails at once; the embedded store waits as long as its database does. Each caller decides what then happens:
//!
//! | what | while the store is away |
//! | --- | --- |
//! | [`Kv::get`], [`Kv::set`], [`Kv::take`], [`Kv::compare_and_set`] of logins, codes, tokens and sessions at PDSes | an error: nobody is let in, and nothing is used twice |
//! | [`Kv::compare_and_set`] of an `Idempotency-Key` | the door lets it pass, and keeps no answer: what is repeated changes nothing anyway |
//! | [`Kv::lock`] | an error, which counts as not held: sweeps and backfills wait, nobody does their work twice |
//! | [`Lock::during`] (sweeps, backfills) | goes on until the lock would have expired, then stops |
//! | [`Lock::throughout`] (a session at a PDS is renewed) | goes on to the end: half-way it would be lost; who else renews it meanwhile is found out by comparing |
//! | [`Kv::rate`] on what programs bring | the door lets it pass: an outage must not become everybody's |
//! | [`Kv::rate`] on logins that are begun | refused: each of them has us ask servers of the network, and nobody could finish it |
//! | [`Kv::cached`], [`Kv::keep`] | a miss: it is fetched |
//! | [`Bell::ring`] | rung when the store is back; meanwhile listeners look by themselves |

mod bell;
mod cache;
mod embedded;
mod fence;
mod key;
mod lock;
mod rate;
mod redis;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::Duration as Span;
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

pub use self::{
    bell::{Bell, Listener, Topic},
    fence::Fence,
    key::{Key, Kind},
    lock::Lock,
    rate::{Limit, Rate},
};
use self::{cache::Memory, embedded::Embedded, key::check_namespace, redis::Redis};
use crate::{
    error::{Error, Result},
    infra::{clock::Clock, db::Db, resilience::Circuit},
};

/// Largest value in bytes.
pub const MAX_VALUE: usize = 256 * 1024;

/// Shortest and longest time to live; what is outside is taken for the nearer of the two.
const TTLS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_hours(400 * 24));

/// How long a process answers from its memory what is cached in Redis: a value may be used for so much longer than it lives.
const AT_HAND: Duration = Duration::from_secs(1);

/// Where the store is.
#[derive(Clone, Debug)]
pub struct KvSettings {
    /// `redis://` or `rediss://` URL; none for the embedded store.
    pub url: Option<String>,
    /// What keys begin with: tells several installations apart that share a server.
    pub namespace: String,
}

/// Handle to the store. Cheap to clone.
#[derive(Clone)]
pub struct Kv(Arc<Shared>);

struct Shared {
    namespace: String,
    store: Store,
    memory: Memory,
    bells: [Bell; Topic::ALL.len()],
}

enum Store {
    Embedded(Embedded),
    Redis(Redis),
}

impl Kv {
    /// Opens the store. A Redis that does not answer is no error: it is connected to as soon as it does.
    ///
    /// Fails with `CONFIG_INVALID` for a URL or a namespace that cannot be one.
    pub async fn open(settings: &KvSettings, db: Db, clock: Clock) -> Result<Self> {
        check_namespace(&settings.namespace)?;
        let bells = Topic::ALL.map(|_| Bell::within_process());
        let store = match &settings.url {
            None => Store::Embedded(Embedded::new(db, clock)),
            Some(url) => {
                let redis = Redis::open(url, &settings.namespace).await?;
                for (topic, bell) in Topic::ALL.into_iter().zip(&bells) {
                    redis.connect_bell(format!("{}:bell:{}", settings.namespace, topic.as_str()), bell);
                }
                Store::Redis(redis)
            }
        };
        Ok(Self(Arc::new(Shared { namespace: settings.namespace.clone(), store, memory: Memory::new(), bells })))
    }

    /// The value, unless there is none or it has expired.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = self.text(key);
        let value = match &self.0.store {
            Store::Embedded(embedded) => embedded.get(&key).await,
            Store::Redis(redis) => redis.get(&key).await,
        };
        Ok(value?.map(Bytes::from))
    }

    /// Keeps a value for `ttl`, in place of one that is there. `KV_VALUE_TOO_LARGE` beyond [`MAX_VALUE`].
    pub async fn set(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<()> {
        check_size(value)?;
        let key = self.text(key);
        match &self.0.store {
            Store::Embedded(embedded) => embedded.set(&key, value, span(ttl)).await,
            Store::Redis(redis) => redis.set(&key, value, span(ttl)).await,
        }
    }

    /// Deletes a value; whether there was one.
    pub async fn delete(&self, key: &Key) -> Result<bool> {
        let key = self.text(key);
        match &self.0.store {
            Store::Embedded(embedded) => embedded.delete(&key).await,
            Store::Redis(redis) => redis.delete(&key).await,
        }
    }

    /// Gets and deletes a value in one: of any number of takers one gets it. After an error it may be gone.
    pub async fn take(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = self.text(key);
        let value = match &self.0.store {
            Store::Embedded(embedded) => embedded.take(&key).await,
            Store::Redis(redis) => redis.take(&key).await,
        };
        Ok(value?.map(Bytes::from))
    }

    /// Keeps a value for `ttl` if what is there is as expected, `None` standing for nothing; whether it was. After an error
    /// it may have been kept.
    pub async fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool> {
        check_size(value)?;
        let key = self.text(key);
        match &self.0.store {
            Store::Embedded(embedded) => embedded.compare_and_set(&key, expected, value, span(ttl)).await,
            Store::Redis(redis) => redis.compare_and_set(&key, expected, value, span(ttl)).await,
        }
    }

    /// Takes the lock of this name, unless somebody holds it. It is held for `ttl`, which should be seconds, since clocks of
    /// machines differ, and longer when it is [renewed](Lock::renew).
    pub async fn lock(&self, name: &str, ttl: Duration) -> Result<Option<Lock>> {
        let key = self.text(&Key::new(Kind::Lock, name));
        let owner = Uuid::now_v7().simple().to_string();
        let ttl = ttl.clamp(TTLS.0, TTLS.1);
        let asked = Instant::now();
        let fence = match &self.0.store {
            Store::Embedded(embedded) => embedded.lock(&key, &owner, span(ttl)).await,
            Store::Redis(redis) => redis.lock(&key, &owner, span(ttl)).await,
        };
        let (kv, until) = (self.clone(), asked + ttl);
        Ok(fence?.map(|fence| Lock { kv, key, owner, fence, ttl, until, is_over: false }))
    }

    async fn renew(&self, key: &str, owner: &str, fence: u64, ttl: Duration) -> Result<bool> {
        match &self.0.store {
            Store::Embedded(embedded) => embedded.renew(key, owner, span(ttl)).await,
            Store::Redis(redis) => redis.renew(key, owner, fence, span(ttl)).await,
        }
    }

    async fn release(&self, key: &str, owner: &str, fence: u64) -> Result<bool> {
        match &self.0.store {
            Store::Embedded(embedded) => embedded.release(key, owner).await,
            Store::Redis(redis) => redis.release(key, owner, fence).await,
        }
    }

    /// Whether something that weighs `cost` may happen now; if so, it is counted. Ids are counted apart for each length of
    /// window. After an error it may have been counted.
    pub async fn rate(&self, id: &str, limit: Limit, cost: u32) -> Result<Rate> {
        let key = format!("{}:{}", self.text(&Key::new(Kind::Rate, id)), limit.slice());
        match &self.0.store {
            Store::Embedded(embedded) => Ok(embedded.rate(&key, limit, cost)),
            Store::Redis(redis) => redis.rate(&key, limit, cost).await,
        }
    }

    /// The answer that is cached under this id, or else what `fetch` brings, which is cached for `ttl`. Of several who ask in
    /// this process at once, one fetches, and all get the outcome. Fails only as `fetch` does; failures are not cached.
    pub async fn cached(&self, id: &str, ttl: Duration, fetch: impl Future<Output = Result<Bytes>>) -> Result<Bytes> {
        let key = self.text(&Key::new(Kind::Cache, id));
        let text = key.clone();
        match &self.0.store {
            Store::Embedded(_) => self.0.memory.get_or_fetch(key, ttl, fetch).await,
            Store::Redis(redis) => {
                let through = async {
                    match redis.get(&text).await {
                        Ok(Some(found)) => return Ok(Bytes::from(found)),
                        Ok(None) => {}
                        Err(error) => debug!(error = error.chain(), "the cache cannot be read"),
                    }
                    let value = fetch.await?;
                    if value.len() <= MAX_VALUE
                        && let Err(error) = redis.set(&text, &value, span(ttl)).await
                    {
                        debug!(error = error.chain(), "the cache cannot be written");
                    }
                    Ok(value)
                };
                self.0.memory.get_or_fetch(key, ttl.min(AT_HAND), through).await
            }
        }
    }

    /// Caches an answer for `ttl`, in place of one that is [cached](Self::cached) under this id: who has it already gives it out
    /// for at most a second longer. Other processes hear of it through Redis only.
    pub async fn keep(&self, id: &str, ttl: Duration, value: Bytes) {
        let key = self.text(&Key::new(Kind::Cache, id));
        let at_hand = match &self.0.store {
            Store::Embedded(_) => ttl,
            Store::Redis(redis) => {
                if value.len() <= MAX_VALUE
                    && let Err(error) = redis.set(&key, &value, span(ttl)).await
                {
                    debug!(error = error.chain(), "the cache cannot be written");
                }
                ttl.min(AT_HAND)
            }
        };
        self.0.memory.put(key, at_hand, value).await;
    }

    /// The doorbell of a topic.
    pub fn bell(&self, topic: Topic) -> Bell {
        let [changes, failures] = &self.0.bells;
        match topic {
            Topic::Changes => changes.clone(),
            Topic::Failures => failures.clone(),
        }
    }

    /// Deletes what has expired, some thousand at a time: again, until it returns nought. Redis does so by itself.
    pub async fn sweep(&self) -> Result<u64> {
        match &self.0.store {
            Store::Embedded(embedded) => embedded.sweep().await,
            Store::Redis(_) => Ok(0),
        }
    }

    /// Whether the store is a server of its own, whose health is a thing to tell.
    pub fn is_remote(&self) -> bool {
        matches!(self.0.store, Store::Redis(_))
    }

    /// Of the server, where there is one: for loops that wait until it is back.
    pub fn circuit(&self) -> Option<&Circuit> {
        match &self.0.store {
            Store::Embedded(_) => None,
            Store::Redis(redis) => Some(redis.circuit()),
        }
    }

    /// Succeeds when the server answers; the embedded store is as well as the database is.
    pub async fn ping(&self) -> Result<()> {
        match &self.0.store {
            Store::Embedded(_) => Ok(()),
            Store::Redis(redis) => redis.ping().await,
        }
    }

    fn text(&self, key: &Key) -> String {
        key.text(&self.0.namespace)
    }
}

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv")
            .field("namespace", &self.0.namespace)
            .field("is_remote", &self.is_remote())
            .finish_non_exhaustive()
    }
}

fn check_size(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE {
        return Err(Error::invalid("value", "KV_VALUE_TOO_LARGE", format!("it is longer than {MAX_VALUE} bytes")));
    }
    Ok(())
}

fn span(ttl: Duration) -> Span {
    Span::from_std(ttl.clamp(TTLS.0, TTLS.1)).unwrap_or(Span::MAX)
}
