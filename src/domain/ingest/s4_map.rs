//! Stage 4: from a record to a draft.

use chrono::{DateTime, Utc};
use entities::sets::AccountStatus;

use super::{
    line::{Account, Claim, Commit},
    parked::{Parked, Stage},
    revision,
    s2_identify::Subject,
    s3_attribute::{Attributed, Author},
};
use crate::{
    domain::source::{
        Kind, Reading, Source,
        web::{Shelf, is_id},
    },
    infra::atproto::syntax::{AtUri, Cid, Did, Nsid, RecordKey, is_storable, is_tid, parse_datetime},
};

/// A message that the tables could take.
#[derive(Clone, Debug)]
pub(super) enum Mapped {
    Record(Box<RecordChange>),
    Claim(Box<Claimed>),
    Account(AccountChange),
    /// The identity of this DID may have changed: ask the directory again.
    Identity {
        did: String,
    },
    /// The account describes itself anew: the same, where it is known.
    Profile {
        did: String,
    },
    Nothing,
}

/// A record came, changed or went.
#[derive(Clone, Debug)]
pub(super) struct RecordChange {
    pub(super) uri: String,
    pub(super) did: String,
    pub(super) collection: String,
    pub(super) rkey: String,
    pub(super) rev: String,
    pub(super) occurred_at: DateTime<Utc>,
    /// `None`: it was deleted.
    pub(super) version: Option<Version>,
}

/// One version of a record.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) cid: Option<String>,
    pub(super) record: String,
    pub(super) reading: Reading,
}

/// A program says something of a record; stage 8 makes a change of it, beside what the ledger holds by then.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) source: Source,
    pub(super) uri: String,
    /// The account, or the name of the source.
    pub(super) author: String,
    pub(super) collection: String,
    pub(super) rkey: String,
    /// `None`: the order of arrival decides.
    pub(super) rev: Option<String>,
    pub(super) occurred_at: Option<DateTime<Utc>>,
    /// The version that it is, or that its fields were taken from.
    pub(super) cid: Option<String>,
    pub(super) content: Content,
}

impl Claimed {
    /// Whether an account of the network speaks, or is spoken of; else it is the source itself.
    pub(super) fn is_of_account(&self) -> bool {
        !matches!(self.source, Source::Web(Shelf { kind: Kind::Event, .. }))
    }
}

/// What is claimed.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Some fields, as a JSON object.
    Fields(String),
    /// All of the record.
    Whole(Version),
    Gone,
}

/// A host says how an account stands.
#[derive(Clone, Debug)]
pub(super) struct AccountChange {
    pub(super) did: String,
    pub(super) status: AccountStatus,
    pub(super) at: DateTime<Utc>,
}

pub(super) fn map(attributed: Attributed<'_>, now: DateTime<Utc>) -> Result<Mapped, Parked> {
    let Attributed { time_us, author } = attributed;
    // A time that no database keeps is none.
    let seen = time_us.and_then(DateTime::from_timestamp_micros).filter(|seen| is_storable(*seen));
    let (did, subject) = match author {
        Author::Account(did, subject) => (did, subject),
        Author::Source(shelf, claim) => {
            return map_claim(Source::Web(shelf), shelf.source.as_str().to_owned(), &claim, seen);
        }
    };
    match subject {
        Subject::Nothing => Ok(Mapped::Nothing),
        Subject::Identity => Ok(Mapped::Identity { did: did.into_string() }),
        Subject::Profile => Ok(Mapped::Profile { did: did.into_string() }),
        Subject::Account(account) => map_account(did, &account, seen, now),
        Subject::Record(source, commit) => map_record(did, source, &commit, seen.unwrap_or(now)),
        Subject::Claim(source, claim) => map_claim(source, did.into_string(), &claim, seen),
    }
}

fn map_account(
    did: Did,
    account: &Account<'_>,
    seen: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Mapped, Parked> {
    let told = account.time.as_deref().and_then(parse_datetime).map(|(instant, _)| instant);
    // Without an instant the order of two such messages could not be told.
    // A host's word cannot be about the future: it would outlast every later one.
    let Some(at) = told.or(seen).map(|at| at.min(now)) else {
        return Err(Parked::at(Stage::Map, "ACCOUNT_TIME_MISSING", "an account event says when"));
    };
    let status = match (account.active, account.status.as_deref()) {
        (true, _) => AccountStatus::Active,
        (false, Some("deactivated")) => AccountStatus::Deactivated,
        (false, Some("suspended")) => AccountStatus::Suspended,
        (false, Some("takendown")) => AccountStatus::Takendown,
        (false, Some("deleted")) => AccountStatus::Deleted,
        (false, _) => AccountStatus::Inactive,
    };
    Ok(Mapped::Account(AccountChange { did: did.into_string(), status, at }))
}

fn map_record(did: Did, source: Source, commit: &Commit<'_>, occurred_at: DateTime<Utc>) -> Result<Mapped, Parked> {
    let refuse = |code, why: &str| Err(Parked::at(Stage::Map, code, why));
    if !is_tid(&commit.rev) {
        return refuse("REV_MALFORMED", "the revision is not a TID");
    }
    let (Ok(collection), Ok(rkey)) = (Nsid::parse(&commit.collection), RecordKey::parse(&commit.rkey)) else {
        return refuse("RECORD_KEY_MALFORMED", "the record key breaks its grammar");
    };
    let version = match (&*commit.operation, commit.record) {
        ("delete", _) => None,
        ("create" | "update", None) => {
            return refuse("RECORD_MISSING", "a record that is written comes with its content");
        }
        ("create" | "update", Some(record)) => {
            if commit.cid.as_deref().is_some_and(|cid| Cid::parse(cid).is_err()) {
                return refuse("CID_MALFORMED", "the content identifier breaks its grammar");
            }
            let record = record.get();
            Some(Version {
                cid: commit.cid.as_deref().map(str::to_owned),
                reading: source.read(record),
                record: record.to_owned(),
            })
        }
        _ => return refuse("OPERATION_UNKNOWN", "an operation is one of create, update, delete"),
    };
    let uri = AtUri { did, collection, rkey };
    Ok(Mapped::Record(Box::new(RecordChange {
        uri: uri.to_string(),
        did: uri.did.into_string(),
        collection: uri.collection.into_string(),
        rkey: uri.rkey.into_string(),
        rev: commit.rev.clone().into_owned(),
        occurred_at,
        version,
    })))
}

fn map_claim(source: Source, author: String, claim: &Claim<'_>, seen: Option<DateTime<Utc>>) -> Result<Mapped, Parked> {
    let refuse = |code, why: &str| Err(Parked::at(Stage::Map, code, why));
    if claim.rev.as_deref().is_some_and(|rev| !is_tid(rev)) {
        return refuse("REV_MALFORMED", "the revision is not a TID");
    }
    let uri = match source {
        Source::Bluesky(_) => {
            let parts = (Did::parse(&author), Nsid::parse(&claim.collection), RecordKey::parse(&claim.rkey));
            let (Ok(did), Ok(collection), Ok(rkey)) = parts else {
                return refuse("RECORD_KEY_MALFORMED", "the record key breaks its grammar");
            };
            AtUri { did, collection, rkey }.to_string()
        }
        Source::Web(shelf) if is_id(&claim.rkey) => shelf.uri(&claim.rkey),
        Source::Web(_) => return refuse("SOURCE_ID_MALFORMED", "the identifier is too long, or holds what none may"),
    };
    let record = claim.record.map(|record| record.get().to_owned());
    let cid = claim.cid.as_deref().map(str::to_owned);
    let content = match (&*claim.operation, record) {
        ("delete", _) => Content::Gone,
        ("merge", Some(fields)) if fields.starts_with('{') => Content::Fields(fields),
        ("put", Some(record)) => Content::Whole(Version { cid: cid.clone(), reading: source.read(&record), record }),
        ("merge" | "put", _) => return refuse("RECORD_MISSING", "a record that is written comes with its content"),
        _ => return refuse("OPERATION_UNKNOWN", "a claim is one of merge, put, delete"),
    };
    let is_copy = matches!(source, Source::Bluesky(_));
    let rev = claim.rev.as_deref().map(str::to_owned).or_else(|| seen.map(|seen| revision::at(seen, is_copy)));
    Ok(Mapped::Claim(Box::new(Claimed {
        source,
        uri,
        author,
        collection: claim.collection.clone().into_owned(),
        rkey: claim.rkey.clone().into_owned(),
        rev,
        occurred_at: seen,
        cid,
        content,
    })))
}
