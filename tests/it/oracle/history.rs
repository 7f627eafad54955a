//! Random histories of a few accounts: what each of them did, in the order in which it did it.

use chrono::{DateTime, Utc};
use entities::sets::{AccountStatus, EventMode, EventStatus, EventVisibility, RsvpStatus};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::records::{BEGINNING, EVENT, RSVP, cid_of, commit, datetime, did, tid, uri};

/// One message of the network.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) did: String,
    pub(crate) at: i64,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Record(Change),
    Account(AccountStatus),
    Identity,
}

/// A record was written, or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) uri: String,
    pub(crate) rev: String,
    pub(crate) version: Option<Version>,
    collection: &'static str,
    rkey: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) cid: String,
    pub(crate) content: Content,
    json: Value,
}

/// What a reader is to understand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Event(Box<EventSays>),
    Rsvp(Box<RsvpSays>),
    Unreadable,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RsvpSays {
    pub(crate) subject: String,
    pub(crate) subject_cid: String,
    pub(crate) status: RsvpStatus,
    pub(crate) created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventSays {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    pub(crate) status: EventStatus,
    pub(crate) mode: EventMode,
    pub(crate) visibility: EventVisibility,
    pub(crate) point: Option<(f64, f64)>,
    pub(crate) created_at: DateTime<Utc>,
}

impl Message {
    /// As a stream would send it.
    pub(crate) fn line(&self) -> String {
        let Self { did, at, body } = self;
        match body {
            Body::Record(Change { rev, version, collection, rkey, .. }) => {
                let version = version.as_ref().map(|version| (version.cid.as_str(), &version.json));
                commit(did, *at, rev, collection, rkey, version)
            }
            Body::Account(status) => {
                let account = match status {
                    AccountStatus::Active => json!({ "active": true, "did": did, "time": datetime(*at) }),
                    status => json!({ "active": false, "status": status.as_str(), "did": did, "time": datetime(*at) }),
                };
                // The stream saw it later than it happened; what the host says counts.
                json!({ "did": did, "time_us": at + 77, "kind": "account", "account": account }).to_string()
            }
            Body::Identity => {
                let identity = json!({ "did": did, "handle": "somebody.example.com", "time": datetime(*at) });
                json!({ "did": did, "time_us": at, "kind": "identity", "identity": identity }).to_string()
            }
        }
    }
}

/// An account while its history is written.
struct Author {
    did: String,
    now: i64,
    /// Revision of the last commit, with what it wrote: a commit may write several records.
    rev: String,
    in_commit: Vec<String>,
    last_status_at: Option<i64>,
    records: std::collections::BTreeMap<String, Option<Version>>,
}

/// Keys of records in one collection.
const RKEYS: [&str; 3] = ["3lqabcdefgh2a", "self", "a:b~C"];

/// A history of 2 to 5 accounts with 20 to 60 messages. Other seeds are other accounts.
pub(crate) fn history(seed: u64) -> Vec<Message> {
    let mut rng = Rng::with_seed(seed);
    let people = rng.usize(2..=5);
    let mut authors: Vec<Author> = (0..people)
        .map(|number| Author {
            did: did(seed, number),
            now: BEGINNING + rng.i64(0..1_000_000_000),
            rev: String::new(),
            in_commit: Vec::new(),
            last_status_at: None,
            records: std::collections::BTreeMap::new(),
        })
        .collect();
    let dids: Vec<String> = authors.iter().map(|author| author.did.clone()).collect();
    let count = rng.usize(20..=60);
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        let author = rng.usize(..people);
        let author = &mut authors[author];
        let (at, body) = match rng.u8(..100) {
            0..40 => record(&mut rng, author, EVENT, &dids),
            40..80 => record(&mut rng, author, RSVP, &dids),
            80..95 => account(&mut rng, author),
            _ => {
                author.now += 1_000_000;
                (author.now, Body::Identity)
            }
        };
        messages.push(Message { did: author.did.clone(), at, body });
    }
    messages
}

/// All that an account ever did: an event that is shown in every list, so that whoever follows the changes is told of it.
pub(crate) fn debut(rng: &mut Rng, did: String) -> Message {
    let is_shown = |version: &Version| match &version.content {
        Content::Event(says) => says.visibility == EventVisibility::Public && says.status == EventStatus::Scheduled,
        _ => false,
    };
    let version = std::iter::repeat_with(|| event(rng)).find(is_shown);
    let at = BEGINNING;
    let (uri, rkey) = (uri(&did, EVENT, RKEYS[0]), RKEYS[0].to_owned());
    let change = Change { uri, rev: tid(at, 0), version, collection: EVENT, rkey };
    Message { did, at, body: Body::Record(change) }
}

fn account(rng: &mut Rng, author: &mut Author) -> (i64, Body) {
    const OTHERS: [AccountStatus; 4] =
        [AccountStatus::Deactivated, AccountStatus::Suspended, AccountStatus::Takendown, AccountStatus::Deleted];
    let status = if rng.u8(..5) < 2 { AccountStatus::Active } else { OTHERS[rng.usize(..OTHERS.len())] };
    author.now += rng.i64(1..2_000_000_000);
    // Now and then a host says two things of one instant.
    let at = author.last_status_at.filter(|_| rng.u8(..10) == 0).unwrap_or(author.now);
    author.last_status_at = Some(at);
    (at, Body::Account(status))
}

fn record(rng: &mut Rng, author: &mut Author, collection: &'static str, dids: &[String]) -> (i64, Body) {
    let rkey = RKEYS[rng.usize(..RKEYS.len())].to_owned();
    let uri = uri(&author.did, collection, &rkey);
    let held = author.records.get(&uri).cloned().flatten();
    let version = match (rng.u8(..100), held) {
        // Of nothing: the deletion of what was written before the history begins.
        (0..15, Some(_)) | (0..3, None) => None,
        (15..25, Some(held)) => Some(held),
        _ if collection == EVENT => Some(event(rng)),
        _ => Some(answer(rng, dids)),
    };
    let joins = rng.u8(..6) == 0 && !author.rev.is_empty() && !author.in_commit.contains(&uri);
    // A commit ends at the next account event: what happened in between is of another instant.
    if !joins || author.last_status_at.is_some_and(|at| tid(at, 1_023) >= author.rev) {
        author.now += rng.i64(1..2_000_000_000);
        author.rev = tid(author.now, rng.u16(..1_024));
        author.in_commit.clear();
    }
    author.in_commit.push(uri.clone());
    author.records.insert(uri.clone(), version.clone());
    let change = Change { uri, rev: author.rev.clone(), version, collection, rkey };
    (author.now, Body::Record(change))
}

fn event(rng: &mut Rng) -> Version {
    const STATUSES: [(&str, EventStatus); 4] = [
        ("scheduled", EventStatus::Scheduled),
        ("cancelled", EventStatus::Cancelled),
        ("postponed", EventStatus::Postponed),
        ("planned", EventStatus::Planned),
    ];
    const MODES: [(&str, EventMode); 3] =
        [("inperson", EventMode::InPerson), ("virtual", EventMode::Virtual), ("hybrid", EventMode::Hybrid)];
    let created = BEGINNING - 1_000_000 * rng.i64(1..4);
    let name = ["Picnic", "Réunion", "Reading", "夏祭り"][rng.usize(..4)];
    let (status_token, status) = STATUSES[rng.usize(..STATUSES.len())];
    let (mode_token, mode) = MODES[rng.usize(..MODES.len())];
    let description = rng.bool().then(|| format!("take {}", rng.u8(..5)));
    let starts = rng.bool().then(|| BEGINNING + 86_400_000_000 * rng.i64(1..9));
    // With as many digits as there are: each must come back from every column as it went in.
    let point = rng.bool().then(|| (180.0 * rng.f64() - 90.0, 360.0 * rng.f64() - 180.0));
    let visibility = if rng.u8(..8) == 0 { EventVisibility::Unlisted } else { EventVisibility::Public };
    let mut json = json!({
        "$type": EVENT, "createdAt": datetime(created),
        "status": format!("{EVENT}#{status_token}"), "mode": format!("{EVENT}#{mode_token}"),
    });
    let is_readable = rng.u8(..12) != 0;
    if is_readable {
        json["name"] = json!(name);
    }
    if let Some(text) = &description {
        json["description"] = json!(text);
    }
    if let Some(starts) = starts {
        json["startsAt"] = json!(datetime(starts));
    }
    if let Some((latitude, longitude)) = point {
        json["locations"] = json!([{
            "$type": "community.lexicon.location.geo",
            "latitude": latitude.to_string(), "longitude": longitude.to_string(),
        }]);
    }
    if visibility == EventVisibility::Unlisted {
        json["preferences"] = json!({ "showInDiscovery": false });
    }
    let instant = |at| DateTime::from_timestamp_micros(at).unwrap();
    let says = EventSays {
        name: name.to_owned(),
        description,
        starts_at: starts.map(instant),
        status,
        mode,
        visibility,
        point,
        created_at: instant(created),
    };
    let content = if is_readable { Content::Event(Box::new(says)) } else { Content::Unreadable };
    Version { cid: cid_of(&json.to_string()), content, json }
}

fn answer(rng: &mut Rng, dids: &[String]) -> Version {
    const STATUSES: [(&str, RsvpStatus); 3] =
        [("going", RsvpStatus::Confirmed), ("interested", RsvpStatus::Maybe), ("notgoing", RsvpStatus::Cancelled)];
    // Few events, so that several records of a person meet at one of them.
    let subject = uri(&dids[rng.usize(..dids.len())], EVENT, RKEYS[rng.usize(..2)]);
    let subject_cid = cid_of(["one", "two"][rng.usize(..2)]);
    let (token, status) = STATUSES[rng.usize(..3)];
    let created = BEGINNING - 1_000_000 * rng.i64(1..4);
    let mut json = json!({
        "$type": RSVP, "subject": { "uri": subject, "cid": subject_cid }, "status": format!("{RSVP}#{token}"),
        "createdAt": datetime(created),
    });
    let created_at = DateTime::from_timestamp_micros(created).unwrap();
    let content = match rng.u8(..24) {
        0 => {
            json["status"] = json!("perhaps");
            Content::Unreadable
        }
        1 => {
            json["subject"] = json!(null);
            Content::Unreadable
        }
        _ => Content::Rsvp(Box::new(RsvpSays { subject, subject_cid, status, created_at })),
    };
    Version { cid: cid_of(&json.to_string()), content, json }
}
