//! One message: a line of JSON in the form of Jetstream v1, which streams, replay files, the queue and the failure list
//! all carry, with one kind of our own (`resync`).

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A line, borrowed from its text.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    /// Repository.
    #[serde(borrow)]
    pub did: Cow<'a, str>,
    /// When the stream saw it, Unix microseconds.
    #[serde(default)]
    pub time_us: Option<i64>,
    /// `commit`, `identity`, `account` or `resync`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Present for `commit`.
    #[serde(borrow, default)]
    pub commit: Option<Commit<'a>>,
    /// Present for `account`.
    #[serde(borrow, default)]
    pub account: Option<Account<'a>>,
    /// Present for `resync`.
    #[serde(borrow, default)]
    pub resync: Option<Resync<'a>>,
}

/// One operation on one record.
#[derive(Debug, Deserialize)]
pub struct Commit<'a> {
    /// Revision of the repository.
    #[serde(borrow)]
    pub rev: Cow<'a, str>,
    /// `create`, `update` or `delete`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Collection of the record.
    #[serde(borrow)]
    pub collection: Cow<'a, str>,
    /// Key of the record.
    #[serde(borrow)]
    pub rkey: Cow<'a, str>,
    /// The record verbatim; absent for `delete`.
    #[serde(borrow, default)]
    pub record: Option<&'a RawValue>,
    /// Version of the record; absent for `delete`.
    #[serde(borrow, default)]
    pub cid: Option<Cow<'a, str>>,
}

/// The status of an account at its host.
#[derive(Debug, Deserialize)]
pub struct Account<'a> {
    /// Takes part in the network.
    pub active: bool,
    /// Why not.
    #[serde(borrow, default)]
    pub status: Option<Cow<'a, str>>,
    /// When its host said so.
    #[serde(borrow, default)]
    pub time: Option<Cow<'a, str>>,
}

/// A repository has to be read again.
#[derive(Debug, Deserialize)]
pub struct Resync<'a> {
    /// Revision at which the need was seen.
    #[serde(borrow, default)]
    pub rev: Option<Cow<'a, str>>,
    /// Only this collection.
    #[serde(borrow, default)]
    pub collection: Option<Cow<'a, str>>,
    /// Only this record.
    #[serde(borrow, default)]
    pub rkey: Option<Cow<'a, str>>,
}

/// Writes the line of a record that was read from a repository.
pub fn of_record(did: &str, at: DateTime<Utc>, commit: CommitLine<'_>) -> String {
    written(&OwnLine {
        did,
        time_us: at.timestamp_micros(),
        kind: "commit",
        commit: Some(commit),
        account: None,
        resync: None,
    })
}

/// Writes the line of an account whose host was asked for its status.
pub fn of_account(did: &str, active: bool, status: Option<&str>, at: DateTime<Utc>) -> String {
    let account = Some(AccountLine { active, status, time: at.to_rfc3339_opts(SecondsFormat::Micros, true) });
    written(&OwnLine { did, time_us: at.timestamp_micros(), kind: "account", commit: None, account, resync: None })
}

/// Writes the line that asks for a repository to be read.
pub fn of_resync(did: &str, at: DateTime<Utc>) -> String {
    let resync = Some(ResyncLine { reason: "listed" });
    written(&OwnLine { did, time_us: at.timestamp_micros(), kind: "resync", commit: None, account: None, resync })
}

fn written(line: &OwnLine<'_>) -> String {
    // Text, numbers and raw JSON cannot fail to serialise.
    serde_json::to_string(line).unwrap_or_default()
}

/// The commit part of a line that is written here.
#[derive(Debug, Serialize)]
pub struct CommitLine<'a> {
    /// Revision of the repository.
    pub rev: &'a str,
    /// `update` or `delete`.
    pub operation: &'static str,
    /// Collection of the record.
    pub collection: &'a str,
    /// Key of the record.
    pub rkey: &'a str,
    /// The record verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<&'a RawValue>,
    /// Version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<&'a str>,
}

#[derive(Serialize)]
struct AccountLine<'a> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    time: String,
}

#[derive(Serialize)]
struct ResyncLine {
    reason: &'static str,
}

#[derive(Serialize)]
struct OwnLine<'a> {
    did: &'a str,
    time_us: i64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<ResyncLine>,
}
