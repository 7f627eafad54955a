//! What a set of messages means, said in the plainest way: no order, no tables, no transactions. And the same picture
//! taken from a database.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
};

use chrono::{DateTime, Utc};
use entities::{
    change, event, event_attendee, identity,
    location::{Location, Locations},
    sets::{AccountStatus, ChangeOperation, EventStatus, EventVisibility, RsvpStatus},
    source_record, user,
};
use gateway::infra::db::Db;
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};

use super::history::{Body, Change, Content, EventSays, Message, RsvpSays, Version};
use crate::support::records::tid;

/// Everything that the gateway knows of some accounts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct State {
    /// By AT-URI.
    events: BTreeMap<String, Event>,
    /// By the event's AT-URI and the DID of who answered.
    answers: BTreeMap<(String, String), Answer>,
    /// By AT-URI: revision, and the version of what lives.
    ledger: BTreeMap<String, (String, Option<String>)>,
    /// By DID: status, and since when.
    accounts: BTreeMap<String, (AccountStatus, Option<DateTime<Utc>>)>,
}

#[derive(Debug, PartialEq)]
struct Event {
    says: EventSays,
    organizer: String,
    cid: String,
    rev: String,
    is_hidden: bool,
    /// Confirmed, maybe, cancelled.
    counts: [i32; 3],
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: RsvpStatus,
    uri: String,
    cid: String,
    rev: String,
    event_cid: String,
    created_at: DateTime<Utc>,
    is_hidden: bool,
}

impl State {
    /// What these messages mean, in whatever order and however often they come.
    pub(crate) fn expected(messages: &[Message]) -> Self {
        let mut state = Self::default();
        let mut purged: HashMap<&str, String> = HashMap::new();
        for Message { did, at, body } in messages {
            let account = state.accounts.entry(did.clone()).or_insert((AccountStatus::Active, None));
            if let Body::Account(status) = body {
                let at = DateTime::from_timestamp_micros(*at);
                // The latest word counts; of two of the same instant the worse one.
                if account.1.is_none() || (account.1, account.0) < (at, *status) {
                    *account = (*status, at);
                }
            }
            if let Body::Account(AccountStatus::Deleted) = body {
                let purge = purged.entry(did).or_default();
                *purge = tid(*at, 0).max(purge.clone());
            }
        }
        let mut newest: BTreeMap<&str, &Change> = BTreeMap::new();
        for Message { did, body, .. } in messages {
            let Body::Record(change) = body else { continue };
            if purged.get(did.as_str()).is_some_and(|purged| change.rev <= *purged) {
                continue;
            }
            let held = newest.entry(&change.uri).or_insert(change);
            if held.rev < change.rev {
                *held = change;
            }
        }
        let is_hidden = |did: &str| state.accounts[did].0 != AccountStatus::Active;
        for (uri, change) in &newest {
            let live = change.version.as_ref().map(|version| version.cid.clone());
            state.ledger.insert((*uri).to_owned(), (change.rev.clone(), live));
            if let Some(Version { cid, content: Content::Event(says), .. }) = &change.version {
                let (organizer, rev) = (author(uri).to_owned(), change.rev.clone());
                let is_hidden = is_hidden(&organizer);
                let event =
                    Event { says: (**says).clone(), organizer, cid: cid.clone(), rev, is_hidden, counts: [0; 3] };
                state.events.insert((*uri).to_owned(), event);
            }
        }
        for (uri, change) in newest {
            let Some(Version { cid, content, .. }) = &change.version else { continue };
            let Content::Rsvp(says) = content else { continue };
            let RsvpSays { subject, subject_cid, status, created_at } = &**says;
            if !state.events.contains_key(subject) {
                continue;
            }
            let answer = Answer {
                status: *status,
                uri: uri.to_owned(),
                cid: cid.clone(),
                rev: change.rev.clone(),
                event_cid: subject_cid.clone(),
                created_at: *created_at,
                is_hidden: is_hidden(author(uri)),
            };
            let pair = (subject.clone(), author(uri).to_owned());
            let is_newest = |held: &Answer| (&held.rev, &held.uri) < (&answer.rev, &answer.uri);
            if state.answers.get(&pair).is_none_or(is_newest) {
                state.answers.insert(pair, answer);
            }
        }
        for ((event, _), answer) in state.answers.iter().filter(|(_, answer)| !answer.is_hidden) {
            let place = [RsvpStatus::Confirmed, RsvpStatus::Maybe, RsvpStatus::Cancelled]
                .iter()
                .position(|status| *status == answer.status);
            state.events.get_mut(event).unwrap().counts[place.unwrap()] += 1;
        }
        state
    }

    /// What the tables hold of these accounts, which nobody may write meanwhile, or which are read in one snapshot.
    pub(crate) async fn stored(db: &impl ConnectionTrait) -> Self {
        let users: Vec<user::Model> = user::Entity::find().all(db).await.unwrap();
        let dids: HashMap<i64, String> = users.into_iter().filter_map(|user| Some((user.id, user.did?))).collect();
        let mut state = Self::default();
        let mut purged = HashMap::new();
        for row in identity::Entity::find().all(db).await.unwrap() {
            purged.extend(row.purged_rev.map(|rev| (row.did.clone(), rev)));
            state.accounts.insert(row.did, (row.account_status, row.status_at));
        }
        let mut uris = HashMap::new();
        for row in event::Entity::find().all(db).await.unwrap() {
            let uri = row.record_uri.clone().unwrap();
            assert_eq!(row.source_id.as_ref(), dids.get(&row.user_id), "{uri}");
            uris.insert(row.id, uri.clone());
            assert!(state.events.insert(uri, Event::stored(row)).is_none());
        }
        for row in event_attendee::Entity::find().all(db).await.unwrap() {
            let pair = (uris[&row.event_id].clone(), dids[&row.user_id].clone());
            let answer = Answer {
                status: row.status,
                uri: row.record_uri.unwrap(),
                cid: row.record_cid.unwrap(),
                rev: row.record_rev.unwrap(),
                event_cid: row.event_cid.unwrap(),
                created_at: row.created_at,
                is_hidden: row.is_hidden,
            };
            assert!(state.answers.insert(pair, answer).is_none());
        }
        for row in source_record::Entity::find().all(db).await.unwrap() {
            assert_eq!(row.deleted_at.is_some(), row.record.is_none(), "{}", row.uri);
            // What went with its account leaves a tombstone if it was there by then, and none if it came later.
            if row.deleted_at.is_some() && purged.get(&row.did).is_some_and(|purged| row.rev <= *purged) {
                continue;
            }
            let live = row.record.and(row.cid);
            state.ledger.insert(row.uri, (row.rev, live));
        }
        state
    }

    /// Takes in the state of other accounts.
    pub(crate) fn extend(&mut self, other: Self) {
        self.events.extend(other.events);
        self.answers.extend(other.answers);
        self.ledger.extend(other.ledger);
        self.accounts.extend(other.accounts);
    }

    /// The revision of a record that is known, deleted or not.
    pub(crate) fn revision(&self, uri: &str) -> Option<&str> {
        self.ledger.get(uri).map(|(rev, _)| rev.as_str())
    }

    /// How many records are known, deleted ones included.
    pub(crate) fn records(&self) -> usize {
        self.ledger.len()
    }

    /// Where two states differ.
    pub(crate) fn differences(&self, found: &Self) -> Vec<String> {
        let mut all = differ("event", &self.events, &found.events);
        all.extend(differ("answer", &self.answers, &found.answers));
        all.extend(differ("record", &self.ledger, &found.ledger));
        all.extend(differ("account", &self.accounts, &found.accounts));
        all
    }
}

impl Event {
    fn stored(row: event::Model) -> Self {
        let point = row.latitude.zip(row.longitude);
        let locations = point.map(|(latitude, longitude)| Location::Point { name: None, latitude, longitude });
        assert_eq!(row.locations, Locations(locations.into_iter().collect()));
        Self {
            says: EventSays {
                name: row.name,
                description: row.description,
                starts_at: row.starts_at,
                status: row.status,
                mode: row.mode,
                visibility: row.visibility,
                point,
                created_at: row.created_at,
            },
            organizer: row.source_id.unwrap(),
            cid: row.record_cid.unwrap(),
            rev: row.record_rev.unwrap(),
            is_hidden: row.is_hidden,
            counts: [row.confirmed_count, row.maybe_count, row.cancelled_count],
        }
    }
}

fn differ<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Vec<String> {
    let keys: BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    keys.into_iter()
        .filter(|key| expected.get(key) != found.get(key))
        .map(|key| format!("{what} {key:?}\n  expected {:?}\n  found    {:?}", expected.get(key), found.get(key)))
        .collect()
}

/// The DID in an AT-URI.
pub(crate) fn author(uri: &str) -> &str {
    uri.trim_start_matches("at://").split('/').next().unwrap()
}

/// What is wrong with the change log: read from its beginning it must tell exactly what is listed now, and never speak of
/// what a reader does not have.
pub(crate) async fn faults_of_log(db: &Db) -> Vec<String> {
    let mut faults = Vec::new();
    let mut told: BTreeMap<i64, change::Model> = BTreeMap::new();
    for row in change::Entity::find().order_by_asc(change::Column::Id).all(db.read()).await.unwrap() {
        let is_known = told.contains_key(&row.event_id);
        if is_known == (row.operation == ChangeOperation::Created) {
            faults.push(format!("change {row:?} of an event that is {}there", if is_known { "" } else { "not " }));
        }
        if (row.operation == ChangeOperation::Updated) == row.changed_fields.0.is_empty() {
            faults.push(format!("change {row:?} says nothing, or too much"));
        }
        if row.operation == ChangeOperation::Deleted {
            told.remove(&row.event_id);
        } else {
            told.insert(row.event_id, row);
        }
    }
    for row in event::Entity::find().all(db.read()).await.unwrap() {
        let is_listed = !row.is_hidden && row.visibility == EventVisibility::Public && row.status != EventStatus::Draft;
        match (told.remove(&row.id), is_listed) {
            (None, true) => faults.push(format!("{:?} is listed and was not told", row.record_uri)),
            (Some(_), false) => faults.push(format!("{:?} is not listed and was told", row.record_uri)),
            (Some(last), true) => {
                let said = (last.event_uri, last.organizer_did, last.starts_at, last.latitude, last.longitude);
                let now = (row.record_uri, row.source_id, row.starts_at, row.latitude, row.longitude);
                if said != now {
                    faults.push(format!("the last change says {said:?}, the event {now:?}"));
                }
            }
            (None, false) => {}
        }
    }
    faults.extend(told.into_values().map(|row| format!("{row:?} is gone and that was not told")));
    faults
}
