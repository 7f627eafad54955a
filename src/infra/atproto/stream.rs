//! Streams of the network: what to connect to, what to keep, and the loop that never gives up.
//!
//! [`follow`] turns a list of endpoints into one sequence of [`Item`]s. It promises: messages of one endpoint in the
//! order of that endpoint, each at least once as long as the server still has it, and an [`Item::Gap`] wherever
//! something may have been passed over. It deliberately does not remember anything beyond its own life: whoever takes
//! the items stores the cursors, after the items are safe. It knows nothing of what the records mean.

mod session;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::session::{Follower, Lost};
pub use super::frame::{Frame, Wanted};
use super::{
    firehose,
    frame::{Notice, Reading, now_us},
    jetstream,
};
use crate::error::{Error, Result};

/// How far back a Jetstream is read again after a break, in µs; its times are not strictly those of arrival.
const REWIND_SAME: i64 = 1_000_000;
/// The same for another instance, whose times are of its own clock.
const REWIND_OTHER: i64 = 5_000_000;
/// A connection that stood this long was no failed attempt, even if nothing came.
const HEALTHY_AFTER: Duration = Duration::from_mins(1);

/// The language of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Jetstream, first version; cursors are µs since 1970.
    Jetstream,
    /// `com.atproto.sync.subscribeRepos`; cursors are numbers of that one host.
    Firehose,
}

impl Dialect {
    /// Its name in endpoints and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jetstream => "jetstream",
            Self::Firehose => "firehose",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Jetstream => "/subscribe",
            Self::Firehose => "/xrpc/com.atproto.sync.subscribeRepos",
        }
    }
}

/// Where a stream is, written `jetstream+wss://host` or `firehose+wss://host`; `ws://` does as well.
///
/// A missing path is the usual one of the dialect; parameters other than those of the subscription are kept.
/// Displayed without parameters (which may hold a key), it is the name under which its cursor is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    dialect: Dialect,
    url: Url,
}

impl Endpoint {
    /// Its language.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The text is not repeated: it may hold a password.
        let refuse = |why: &str| Error::invalid("streams.endpoints", "STREAM_INVALID", format!("an address {why}"));
        let (dialect, reserved, url) = match text.trim().split_once('+') {
            Some(("jetstream", url)) => (Dialect::Jetstream, jetstream::PARAMETERS, url),
            Some(("firehose", url)) => (Dialect::Firehose, firehose::PARAMETERS, url),
            _ => return Err(refuse("begins with neither jetstream+ nor firehose+")),
        };
        let mut url = Url::parse(url).map_err(|error| refuse(&format!("holds no address: {error}")))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(refuse("is neither ws:// nor wss://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds a user name or password, which WebSockets do not carry"));
        }
        url.set_fragment(None);
        if matches!(url.path(), "" | "/") {
            url.set_path(dialect.path());
        }
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !reserved.contains(&&**name))
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        Ok(Self { dialect, url })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        write!(f, "{}+{url}", self.dialect.name())
    }
}

/// Patience and bounds of a connection.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// A connection that shows no sign of life for this long, pings and pongs included, is given up.
    pub stall_after: Duration,
    /// A connection that lives but brings no message for this long is given up.
    pub quiet_after: Duration,
    /// How long connecting may take.
    pub connect_within: Duration,
    /// Bound of the first wait before connecting again; the wait itself is random below the bound.
    pub backoff_min: Duration,
    /// What the bound doubles up to.
    pub backoff_max: Duration,
    /// How many connections in a row may bring nothing before the next endpoint is tried.
    pub attempts: u32,
    /// The longest message read, in bytes. Escaped, a record of the longest allowed size needs six times as many.
    pub max_frame_bytes: usize,
    /// How often an [`Item::Passed`] is sent while nothing wanted comes.
    pub report_every: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            stall_after: Duration::from_secs(30),
            quiet_after: Duration::from_mins(5),
            connect_within: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            attempts: 2,
            max_frame_bytes: 8 << 20,
            report_every: Duration::from_secs(5),
        }
    }
}

/// An endpoint with the cursor up to which its items are safe, if it was ever read.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// The cursor last stored for this endpoint.
    pub cursor: Option<i64>,
}

/// What [`follow`] hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The endpoint has answered: what happens from here on is told, unless a gap says otherwise.
    Connected {
        /// Position in the list of endpoints.
        endpoint: usize,
    },
    /// A message.
    Frame(Frame),
    /// Nothing wanted stands between the last frame of this endpoint and this cursor, which may be stored.
    Passed {
        /// Position in the list of endpoints.
        endpoint: usize,
        /// The cursor.
        cursor: i64,
    },
    /// Messages before this point may be missing: the repositories should be compared.
    Gap {
        /// Position in the list of endpoints of the one that goes on after the gap.
        endpoint: usize,
    },
}

/// Follows one of the endpoints at a time until told to stop or until nobody takes the items any more.
///
/// Begins with the first; after [`attempts`](StreamSettings::attempts) fruitless connections the next one's turn comes,
/// and it keeps its turn until it fails in the same way. `out` being full holds the stream back. Fails only for a list
/// that cannot be followed.
pub async fn follow(
    starts: Vec<Start>,
    wanted: Wanted,
    settings: StreamSettings,
    out: mpsc::Sender<Item>,
    shutdown: CancellationToken,
) -> Result<()> {
    if starts.is_empty() {
        return Err(Error::invalid("streams", "STREAM_INVALID", "there is no endpoint to follow"));
    }
    let asked = wanted.collections().len();
    if asked > jetstream::MAX_COLLECTIONS && starts.iter().any(|s| s.endpoint.dialect == Dialect::Jetstream) {
        let why = format!("a Jetstream serves at most {} collections, not {asked}", jetstream::MAX_COLLECTIONS);
        return Err(Error::invalid("streams", "TOO_MANY_COLLECTIONS", why));
    }
    let known = starts.iter().any(|start| start.cursor.is_some());
    let mut follower = Follower::new(starts, wanted, settings, out, shutdown);
    follower.connected_before = known;
    let (mut index, mut fruitless, mut attempt) = (0, 0, 0);
    loop {
        let began = Instant::now();
        let Some(lost) = follower.session(index).await else { return Ok(()) };
        fruitless = if lost.heard { 0 } else { fruitless + 1 };
        attempt = if lost.heard || began.elapsed() >= HEALTHY_AFTER { 0 } else { attempt + 1 };
        let from = follower.name(index);
        if lost.forget_cursor {
            follower.forget(index);
        }
        if fruitless >= follower.settings.attempts {
            fruitless = 0;
            index = (index + 1) % follower.starts.len();
        }
        let wait = backoff(&follower.settings, attempt);
        let Lost { why, .. } = lost;
        let (next, wait_ms) = (follower.name(index), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let error = format!("{why:#}");
        if follower.outage.fails() {
            tracing::warn!(endpoint = %from, %next, wait_ms, error, "stream lost; connecting again");
        } else {
            tracing::debug!(endpoint = %from, %next, wait_ms, error, "stream lost again");
        }
        metrics::counter!("gateway_stream_reconnects_total").increment(1);
        tokio::select! {
            () = follower.shutdown.cancelled() => return Ok(()),
            () = follower.out.closed() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A random wait below a bound that doubles with every failed attempt.
fn backoff(settings: &StreamSettings, attempt: u32) -> Duration {
    let bound = settings.backoff_min.saturating_mul(1 << attempt.min(20)).min(settings.backoff_max);
    bound.mul_f64(fastrand::f64())
}
