//! `com.atproto.sync.subscribeRepos` of a relay or a PDS: frames of DAG-CBOR, turned into lines of Jetstream's form.
//!
//! Promises: a record is passed on only if its bytes hash to the CID that its commit names. What a commit does not show
//! in full (too big, after a gap, damaged) becomes a `resync` line, which says what to read again from the repository.
//! Deliberately not here: signatures and tree proofs, since we trust the host that we chose as far as a Jetstream.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use ipld_core::cid::Cid;
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use url::Url;

use super::{
    car,
    frame::{Frame, Notice, Reading, Wanted, now_us},
};

/// Parameters that a subscription sets itself and an endpoint may not.
pub(super) const PARAMETERS: &[&str] = &["cursor"];
/// The protocol's bounds of one commit, in operations and in bytes of blocks.
const MAX_OPS: usize = 200;
const MAX_BLOCKS: usize = 2_000_000;
/// The protocol's bound of one record, in bytes.
const MAX_RECORD: usize = 1 << 20;
/// How many repositories have their last revision remembered, at most.
const MAX_REVS: usize = 100_000;

/// The address to connect to.
pub(super) fn request(endpoint: &Url, cursor: Option<i64>) -> Url {
    let mut url = endpoint.clone();
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", &cursor.to_string());
    }
    url
}

/// A revision as it is compared: thirteen characters whose order is the order of time.
type Rev = [u8; 13];

fn rev_of(text: &str) -> Option<Rev> {
    text.as_bytes().try_into().ok()
}

/// The last revision of the repositories that once held something wanted.
///
/// Bounded by two generations: when the younger is full the older is forgotten. What is forgotten is only that a gap
/// would be noticed.
#[derive(Default)]
pub(super) struct Revs {
    young: HashMap<Box<str>, Rev>,
    old: HashMap<Box<str>, Rev>,
}

impl Revs {
    fn last(&self, did: &str) -> Option<Rev> {
        self.young.get(did).or_else(|| self.old.get(did)).copied()
    }

    fn remember(&mut self, did: &str, rev: Rev) {
        if let Some(last) = self.young.get_mut(did) {
            *last = rev;
            return;
        }
        if self.young.len() >= MAX_REVS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(did.into(), rev);
    }
}

#[derive(Deserialize)]
struct Header<'a> {
    op: i64,
    #[serde(borrow, default)]
    t: Option<&'a str>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: &'a str,
    #[serde(borrow, default)]
    message: Option<&'a str>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    name: &'a str,
}

#[derive(Deserialize)]
struct Commit<'a> {
    seq: i64,
    #[serde(borrow)]
    repo: &'a str,
    #[serde(borrow)]
    rev: &'a str,
    #[serde(borrow, default)]
    since: Option<&'a str>,
    #[serde(borrow, default)]
    time: Option<&'a str>,
    #[serde(rename = "tooBig", default)]
    too_big: bool,
    #[serde(borrow, default)]
    ops: Ops<'a>,
    #[serde(borrow, default)]
    blocks: &'a [u8],
}

/// The operations of a commit, no more than there may be.
#[derive(Default)]
struct Ops<'a> {
    kept: Vec<Op<'a>>,
    /// There were more than may be.
    more: bool,
}

#[derive(Deserialize)]
struct Op<'a> {
    #[serde(borrow)]
    action: &'a str,
    #[serde(borrow)]
    path: &'a str,
    #[serde(default)]
    cid: Option<Cid>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Ops<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Ops<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ops<'de>, A::Error> {
                let mut ops = Ops::default();
                while ops.kept.len() < MAX_OPS {
                    match items.next_element()? {
                        Some(op) => ops.kept.push(op),
                        None => return Ok(ops),
                    }
                }
                while items.next_element::<IgnoredAny>()?.is_some() {
                    ops.more = true;
                }
                Ok(ops)
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

#[derive(Deserialize)]
struct Sync<'a> {
    seq: i64,
    #[serde(borrow)]
    did: &'a str,
    #[serde(borrow)]
    rev: &'a str,
    #[serde(borrow, default)]
    time: Option<&'a str>,
}

/// Both in the form of the stream and, field for field in its order, in Jetstream's.
#[derive(Deserialize, Serialize)]
struct Identity<'a> {
    did: &'a str,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    handle: Option<&'a str>,
    seq: i64,
    time: &'a str,
}

/// Both in the form of the stream and, field for field in its order, in Jetstream's.
#[derive(Deserialize, Serialize)]
struct Account<'a> {
    active: bool,
    did: &'a str,
    seq: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    time: &'a str,
}

/// One line of Jetstream's form.
#[derive(Serialize)]
struct Line<'a> {
    did: &'a str,
    time_us: i64,
    kind: &'static str,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    Commit(Change<'a>),
    /// To a record that concerns the account.
    #[serde(rename = "commit")]
    Watched(Change<'a>),
    Identity(Identity<'a>),
    Account(Account<'a>),
    Resync(Resync<'a>),
}

impl Body<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Commit(_) | Self::Watched(_) => "commit",
            Self::Identity(_) => "identity",
            Self::Account(_) => "account",
            Self::Resync(_) => "resync",
        }
    }
}

#[derive(Serialize)]
struct Change<'a> {
    rev: &'a str,
    operation: &'a str,
    collection: &'a str,
    rkey: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
}

/// Our own extension: what must be read again from the repository.
#[derive(Serialize)]
struct Resync<'a> {
    rev: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rkey: Option<&'a str>,
}

/// Reads one frame; fails if it is none of this protocol. `revs` carries over from frame to frame.
pub(super) fn read(bytes: &[u8], wanted: &Wanted, revs: &mut Revs) -> anyhow::Result<Reading> {
    let mut cbor = serde_ipld_dagcbor::de::Deserializer::from_slice(bytes);
    let header = Header::deserialize(&mut cbor)?;
    if header.op == -1 {
        let Refusal { error, message } = Refusal::deserialize(&mut cbor)?;
        let notice = match error {
            "FutureCursor" => Notice::CursorRefused,
            _ => Notice::Closing(format!("{error}: {}", message.unwrap_or_default())),
        };
        return Ok(Reading { notice: Some(notice), ..Reading::of("error") });
    }
    // a type may come with the name of the whole method in front
    let name = header.t.and_then(|t| t.rsplit_once('#')).map(|(_, name)| name);
    match (header.op, name) {
        (1, Some("commit")) => commit(&Commit::deserialize(&mut cbor)?, wanted, revs),
        (1, Some("sync")) => {
            let Sync { seq, did, rev, time } = Sync::deserialize(&mut cbor)?;
            if let Some(rev) = rev_of(rev).filter(|_| revs.last(did).is_some()) {
                revs.remember(did, rev);
            }
            let mut lines = Lines::new(did, seq, time);
            lines.resync(rev, "sync", None)?;
            Ok(lines.reading("sync"))
        }
        (1, Some("identity")) => {
            let identity = Identity::deserialize(&mut cbor)?;
            let mut lines = Lines::new(identity.did, identity.seq, Some(identity.time));
            lines.push(Body::Identity(identity))?;
            Ok(lines.reading("identity"))
        }
        (1, Some("account")) => {
            let account = Account::deserialize(&mut cbor)?;
            let mut lines = Lines::new(account.did, account.seq, Some(account.time));
            lines.push(Body::Account(account))?;
            Ok(lines.reading("account"))
        }
        (1, Some("info")) => {
            let outdated = Info::deserialize(&mut cbor)?.name == "OutdatedCursor";
            Ok(Reading { notice: outdated.then_some(Notice::Gap), ..Reading::of("info") })
        }
        _ => Ok(Reading::of("other")),
    }
}

/// The lines that one message of the stream becomes.
struct Lines<'a> {
    did: &'a str,
    seq: i64,
    time_us: i64,
    frames: Vec<Frame>,
}

impl<'a> Lines<'a> {
    fn new(did: &'a str, seq: i64, time: Option<&str>) -> Self {
        let time = time.and_then(|time| chrono::DateTime::parse_from_rfc3339(time).ok());
        let time_us = time.map_or_else(now_us, |time| time.timestamp_micros());
        Self { did, seq, time_us, frames: Vec::new() }
    }

    fn push(&mut self, body: Body<'_>) -> anyhow::Result<()> {
        let commit_collection = match &body {
            Body::Commit(change) => Some(change.collection.to_owned()),
            // A record that is wanted and could not be had: its author counts as much as one whose record was.
            Body::Resync(request) => request.collection.map(str::to_owned),
            _ => None,
        };
        let line = Line { did: self.did, time_us: self.time_us, kind: body.kind(), body };
        let json = serde_json::to_string(&line)?;
        self.frames.push(Frame { endpoint: 0, did: self.did.to_owned(), cursor: self.seq, json, commit_collection });
        Ok(())
    }

    fn resync(&mut self, rev: &str, reason: &'static str, path: Option<(&str, &str)>) -> anyhow::Result<()> {
        metrics::counter!("gateway_stream_resyncs_total", "reason" => reason).increment(1);
        let (collection, rkey) = path.unzip();
        self.push(Body::Resync(Resync { rev, reason, collection, rkey }))
    }

    /// Whoever stops between two lines must meet the whole message again: only the last line passes its number.
    fn reading(mut self, kind: &'static str) -> Reading {
        if let Some((_, before)) = self.frames.split_last_mut() {
            for frame in before {
                frame.cursor = self.seq.saturating_sub(1);
            }
        }
        Reading { frames: self.frames, cursor: Some(self.seq), time_us: Some(self.time_us), ..Reading::of(kind) }
    }
}

/// An operation on a wanted collection, its path taken apart.
struct WantedOp<'a> {
    action: &'a str,
    collection: &'a str,
    rkey: &'a str,
    cid: Option<Cid>,
}

fn commit(commit: &Commit<'_>, wanted: &Wanted, revs: &mut Revs) -> anyhow::Result<Reading> {
    let mut lines = Lines::new(commit.repo, commit.seq, commit.time);
    let last = revs.last(commit.repo);
    let rev = rev_of(commit.rev);
    if let (Some(last), Some(rev)) = (last, rev)
        && rev <= last
    {
        return Ok(lines.reading("stale"));
    }
    let ops: Vec<WantedOp<'_>> = commit.ops.kept.iter().filter_map(|op| pick(op, |name| wanted.has(name))).collect();
    if let Some(rev) = rev
        && (last.is_some() || !ops.is_empty())
    {
        revs.remember(commit.repo, rev);
    }
    let hidden = commit.too_big || commit.ops.more;
    if hidden || (!ops.is_empty() && commit.blocks.len() > MAX_BLOCKS) {
        lines.resync(commit.rev, "too_big", None)?;
        return Ok(lines.reading("commit"));
    }
    changes(commit, &ops, &mut lines)?;
    for op in commit.ops.kept.iter().filter_map(|op| pick(op, |name| wanted.watches(name) && !wanted.has(name))) {
        let WantedOp { action: operation, collection, rkey, .. } = op;
        lines.push(Body::Watched(Change { rev: commit.rev, operation, collection, rkey, record: None, cid: None }))?;
    }
    if let (Some(last), Some(since)) = (last, commit.since)
        && since.as_bytes() != last
    {
        lines.resync(commit.rev, "gap", None)?;
    }
    let kind = if lines.frames.is_empty() { "unwanted" } else { "commit" };
    Ok(lines.reading(kind))
}

fn pick<'a>(op: &Op<'a>, is_wanted: impl Fn(&str) -> bool) -> Option<WantedOp<'a>> {
    let (collection, rkey) = op.path.split_once('/')?;
    let known = matches!(op.action, "create" | "update" | "delete");
    (known && is_wanted(collection)).then_some(WantedOp { action: op.action, collection, rkey, cid: op.cid })
}

fn changes(commit: &Commit<'_>, ops: &[WantedOp<'_>], lines: &mut Lines<'_>) -> anyhow::Result<()> {
    let cids: HashSet<Cid> = ops.iter().filter(|op| op.action != "delete").filter_map(|op| op.cid).collect();
    let found = if cids.is_empty() { None } else { Some(car::find(commit.blocks, &cids)) };
    for op in ops {
        let WantedOp { action: operation, collection, rkey, cid } = *op;
        let change = |record, cid: Option<Cid>| {
            let cid = cid.map(|cid| cid.to_string());
            Body::Commit(Change { rev: commit.rev, operation, collection, rkey, record, cid })
        };
        if operation == "delete" {
            lines.push(change(None, None))?;
            continue;
        }
        let block = cid.and_then(|cid| found.as_ref()?.blocks.get(&cid));
        let Some(block) = block else {
            let intact = found.as_ref().is_none_or(|found| found.intact);
            let reason = if intact { "missing_block" } else { "undecodable" };
            lines.resync(commit.rev, reason, Some((collection, rkey)))?;
            continue;
        };
        lines.push(change(Some(record(commit, op, block)), cid))?;
    }
    Ok(())
}

/// The record as JSON, or null for one that has no such form: the pipeline parks it under its name.
fn record(commit: &Commit<'_>, op: &WantedOp<'_>, block: &[u8]) -> Box<RawValue> {
    let json = if block.len() > MAX_RECORD {
        Err(anyhow::anyhow!("{} bytes are more than a record may have", block.len()))
    } else {
        car::to_json(block)
    };
    json.unwrap_or_else(|error| {
        metrics::counter!("gateway_stream_undecodable_total").increment(1);
        let (did, collection, rkey) = (commit.repo, op.collection, op.rkey);
        tracing::debug!(did, collection, rkey, error = %format!("{error:#}"), "record has no JSON form; passed on as null");
        RawValue::NULL.to_owned()
    })
}

#[cfg(test)]
mod tests;
