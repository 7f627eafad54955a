//! One message: a line of JSON in the form of Jetstream v1, which streams, replay files, the queue and the failure list
//! all carry, with two kinds of our own: `resync`, and `claim` for what a program says of a record.

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
    /// `commit`, `identity`, `account`, `resync` or `claim`.
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
    /// Present for `claim`.
    #[serde(borrow, default)]
    pub claim: Option<Claim<'a>>,
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

/// What a program says of a record: less than a commit of its repository, and completed in the transaction that writes it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Claim<'a> {
    /// `merge`: some fields of it; `put`: all of it; `delete`: it is gone.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Collection of the record, or what stands in its place for records of no repository.
    #[serde(borrow)]
    pub collection: Cow<'a, str>,
    /// Key of the record.
    #[serde(borrow)]
    pub rkey: Cow<'a, str>,
    /// Revision, where the program tells one. Without it the time of the line counts, and without that the arrival.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<Cow<'a, str>>,
    /// The fields, or the record verbatim; absent for `delete`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub record: Option<&'a RawValue>,
    /// Version of the record; for `merge` the one that the fields were taken from.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<Cow<'a, str>>,
}

/// The account that a line is about, or the source that speaks; nothing for what is no line.
pub fn account(line: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Rough<'a> {
        #[serde(borrow)]
        did: Cow<'a, str>,
    }
    serde_json::from_str::<Rough<'_>>(line).ok().map(|rough| rough.did)
}

/// Writes the line of what a program says of a record of this repository, or source.
pub fn of_claim(did: &str, at: Option<DateTime<Utc>>, claim: &Claim<'_>) -> String {
    let time_us = at.map(|at| at.timestamp_micros());
    written(&OwnLine { did, time_us, kind: "claim", commit: None, account: None, resync: None, claim: Some(claim) })
}

/// Writes the line of a record that was read from a repository.
pub fn of_record(did: &str, at: DateTime<Utc>, commit: CommitLine<'_>) -> String {
    written(&OwnLine {
        did,
        time_us: Some(at.timestamp_micros()),
        kind: "commit",
        commit: Some(commit),
        account: None,
        resync: None,
        claim: None,
    })
}

/// Writes the line of an account whose host was asked for its status.
pub fn of_account(did: &str, active: bool, status: Option<&str>, at: DateTime<Utc>) -> String {
    let account = Some(AccountLine { active, status, time: at.to_rfc3339_opts(SecondsFormat::Micros, true) });
    let time_us = Some(at.timestamp_micros());
    written(&OwnLine { did, time_us, kind: "account", commit: None, account, resync: None, claim: None })
}

/// Writes the line that asks for a repository to be read.
pub fn of_resync(did: &str, at: DateTime<Utc>) -> String {
    let resync = Some(ResyncLine { reason: "listed" });
    let time_us = Some(at.timestamp_micros());
    written(&OwnLine { did, time_us, kind: "resync", commit: None, account: None, resync, claim: None })
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
    #[serde(skip_serializing_if = "Option::is_none")]
    time_us: Option<i64>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<ResyncLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a Claim<'a>>,
}
