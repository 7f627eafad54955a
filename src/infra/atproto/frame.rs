//! What the dialects of streams have in common: which messages are kept, and what becomes of one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Which commits to keep. Identity, account and resync lines always are.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    collections: Vec<String>,
    /// Collections whose records say something of the account itself.
    watched: Vec<String>,
}

impl Wanted {
    /// Keeps these collections, each an NSID or a prefix such as `app.example.*`; none at all means every collection.
    pub fn new(collections: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { collections: collections.into_iter().map(Into::into).collect(), watched: Vec::new() }
    }

    /// Keeps commits of these collections as well, as what concerns their account: that a record has changed is told, not
    /// necessarily what it says.
    #[must_use]
    pub fn watching(mut self, collections: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.watched = collections.into_iter().map(Into::into).collect();
        self
    }

    /// All that a server is to be asked for.
    pub(super) fn collections(&self) -> Vec<&str> {
        // Without a filter a server sends everything.
        let watched = self.watched.iter().filter(|_| !self.collections.is_empty());
        self.collections.iter().chain(watched).map(String::as_str).collect()
    }

    pub(super) fn watches(&self, collection: &str) -> bool {
        self.watched.iter().any(|watched| watched == collection)
    }

    pub(super) fn has(&self, collection: &str) -> bool {
        self.collections.is_empty()
            || self.collections.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(prefix) => collection.starts_with(prefix),
                None => wanted == collection,
            })
    }
}

/// One message, as a line of Jetstream's first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Position in the list of endpoints of the one that sent it.
    pub endpoint: usize,
    /// The repository that it is about.
    pub did: String,
    /// What may be stored for the endpoint once this frame, and all before it, are safe. Of the lines of one commit,
    /// only the last passes the commit.
    pub cursor: i64,
    /// `{"did", "time_us", "kind", …}` in one line, without a line break. Kinds are Jetstream's `commit`, `identity` and
    /// `account`, and `resync` for what must be read again from the repository:
    /// `{"rev", "reason": "too_big|gap|sync|missing_block|undecodable", "collection"?, "rkey"?}`.
    pub json: String,
    /// The collection of the record that it is about, or that could not be had; nothing for what concerns an account.
    pub commit_collection: Option<String>,
}

/// What one message of a server becomes.
pub(super) struct Reading {
    /// Closed set, for metrics.
    pub(super) kind: &'static str,
    pub(super) frames: Vec<Frame>,
    /// Where to resume after this message, if it moves that.
    pub(super) cursor: Option<i64>,
    /// When it happened, in µs.
    pub(super) time_us: Option<i64>,
    pub(super) notice: Option<Notice>,
}

impl Reading {
    pub(super) const fn of(kind: &'static str) -> Self {
        Self { kind, frames: Vec::new(), cursor: None, time_us: None, notice: None }
    }
}

/// What a server says of the stream itself.
pub(super) enum Notice {
    /// The cursor was too old.
    Gap,
    /// The cursor is not one of this server.
    CursorRefused,
    /// The server ends the stream, for this reason.
    Closing(String),
}

/// Now, in µs since 1970.
pub(super) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
