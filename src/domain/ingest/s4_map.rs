//! Stage 4: from a record to a draft.

use chrono::{DateTime, Utc};
use entities::sets::AccountStatus;

use super::{
    line::{Account, Commit},
    parked::{Parked, Stage},
    s2_identify::Subject,
    s3_attribute::Attributed,
};
use crate::{
    domain::source::{Reading, Source},
    infra::atproto::syntax::{AtUri, Cid, Did, Nsid, RecordKey, is_storable, is_tid, parse_datetime},
};

/// A message that the tables could take.
#[derive(Clone, Debug)]
pub(super) enum Mapped {
    Record(Box<RecordChange>),
    Account(AccountChange),
    /// The identity of this DID may have changed: ask the directory again.
    Identity {
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

/// A host says how an account stands.
#[derive(Clone, Debug)]
pub(super) struct AccountChange {
    pub(super) did: String,
    pub(super) status: AccountStatus,
    pub(super) at: DateTime<Utc>,
}

pub(super) fn map(attributed: Attributed<'_>, now: DateTime<Utc>) -> Result<Mapped, Parked> {
    let Attributed { did, time_us, subject } = attributed;
    // A time that no database keeps is none.
    let seen = time_us.and_then(DateTime::from_timestamp_micros).filter(|seen| is_storable(*seen));
    match subject {
        Subject::Nothing => Ok(Mapped::Nothing),
        Subject::Identity => Ok(Mapped::Identity { did: did.into_string() }),
        Subject::Account(account) => map_account(did, &account, seen, now),
        Subject::Record(source, commit) => map_record(did, source, &commit, seen.unwrap_or(now)),
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
