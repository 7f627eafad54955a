//! Stage 2: which source speaks, and of what.

use std::borrow::Cow;

use super::{
    line::{Account, Claim, Commit, Line},
    parked::{Parked, Stage},
    s1_receive::Received,
};
use crate::domain::source::{Source, WATCHED};

/// A message whose source is known.
#[derive(Debug)]
pub(super) struct Identified<'a> {
    pub(super) did: Cow<'a, str>,
    pub(super) time_us: Option<i64>,
    pub(super) subject: Subject<'a>,
}

/// What the message is about.
#[derive(Debug)]
pub(super) enum Subject<'a> {
    Record(Source, Commit<'a>),
    Claim(Source, Claim<'a>),
    Identity,
    /// How an account describes itself.
    Profile,
    Account(Account<'a>),
    /// A collection or kind that nobody here asked for.
    Nothing,
}

impl Identified<'_> {
    /// What it asks for; closed set, for metrics.
    pub(super) fn operation(&self) -> &'static str {
        match &self.subject {
            Subject::Record(_, commit) => match &*commit.operation {
                "create" => "create",
                "update" => "update",
                "delete" => "delete",
                _ => "other",
            },
            Subject::Claim(..) => "claim",
            Subject::Identity => "identity",
            Subject::Profile => "profile",
            Subject::Account(_) => "account",
            Subject::Nothing => "other",
        }
    }
}

pub(super) fn identify(received: Received<'_>) -> Result<Identified<'_>, Parked> {
    let Line { did, time_us, kind, commit, account, claim, .. } = received.line;
    let missing = |what: &str| Parked::at(Stage::Identify, "MESSAGE_MALFORMED", format!("the {what} part is missing"));
    let subject = match &*kind {
        "commit" => {
            let commit = commit.ok_or_else(|| missing("commit"))?;
            match Source::of_collection(&commit.collection) {
                Some(source @ Source::Bluesky(_)) => Subject::Record(source, commit),
                None if WATCHED.contains(&&*commit.collection) => Subject::Profile,
                // Only the network has repositories that commit.
                Some(Source::Web(_)) | None => Subject::Nothing,
            }
        }
        "claim" => {
            let claim = claim.ok_or_else(|| missing("claim"))?;
            Source::of_collection(&claim.collection).map_or(Subject::Nothing, |source| Subject::Claim(source, claim))
        }
        "account" => Subject::Account(account.ok_or_else(|| missing("account"))?),
        "identity" => Subject::Identity,
        _ => Subject::Nothing,
    };
    Ok(Identified { did, time_us, subject })
}
