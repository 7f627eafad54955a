//! What the stream sends: histories of many accounts, mixed with each other, some messages several times and late, as a Jetstream
//! that loses its place does; and signs of life, by which one sees that every partition goes on.

use std::collections::{BTreeSet, HashSet};

use fastrand::Rng;
use gateway::infra::queue::partition_of;
use serde_json::Value;

use super::broker::PARTITIONS;
use crate::{
    oracle::{
        history::{Body, Content, Message, debut, history},
        model::State,
    },
    support::records::{BEGINNING, did},
};

/// After everything that the histories speak of.
const PRESENT: i64 = BEGINNING + 1_000_000_000_000;
/// Microseconds between two lines. A stream that is resumed begins a little earlier: this makes it some hundred lines.
const PACE: i64 = 20_000;
/// How far a message comes from its place.
const DISTANCE: usize = 300;

/// Where messages come from.
pub(super) struct Source {
    rng: Rng,
    lines: i64,
}

/// What comes between two looks at the whole.
pub(super) struct Round {
    /// In three parts.
    pub(super) parts: [Vec<String>; 3],
    /// AT-URIs of the events that the last part begins with, one in each partition, each by an account of its own.
    pub(super) fresh: BTreeSet<String>,
    /// The position of the stream behind them.
    pub(super) fresh_to: i64,
    /// Records that cannot be read: AT-URI and revision.
    pub(super) unreadable: BTreeSet<(String, String)>,
    /// How many messages there are, each counted once.
    pub(super) messages: usize,
    /// What they mean. Their accounts are of this round alone.
    pub(super) expected: State,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), lines: 0 }
    }

    /// Of so many histories.
    pub(super) fn round(&mut self, histories: usize) -> Round {
        let mut expected = State::default();
        let mut placed: Vec<(usize, Message)> = Vec::new();
        let mut messages = 0;
        for _ in 0..histories {
            let mut history = history(self.rng.u64(..));
            // Of accounts without records nothing is kept.
            let records = history.iter().filter(|message| uri(message).is_some());
            let authors: HashSet<String> = records.map(|message| message.did.clone()).collect();
            history.retain(|message| authors.contains(&message.did));
            messages += history.len();
            expected.extend(State::expected(&history));
            let begins = self.rng.usize(..histories * 20);
            for (number, message) in history.into_iter().enumerate() {
                let times = if self.rng.u8(..4) == 0 { self.rng.usize(2..4) } else { 1 };
                for _ in 0..times {
                    let place = begins + number * 8 + self.rng.usize(..DISTANCE);
                    placed.push((place, message.clone()));
                }
            }
        }
        placed.sort_by_key(|(place, _)| *place);
        let unreadable = placed.iter().filter_map(|(_, message)| refused(message)).collect();
        let mut first = known_first(placed.into_iter().map(|(_, message)| message).collect());
        let mut last = first.split_off(first.len() * 2 / 3);
        let second = first.split_off(first.len() / 2);
        let signs: Vec<Message> = self.signs_of_life();
        let fresh = signs.iter().filter_map(uri).collect();
        expected.extend(State::expected(&signs));
        messages += signs.len();
        last.splice(..0, signs);
        let mut lines = |part: Vec<Message>| part.iter().map(|message| self.line(message)).collect();
        let parts: [Vec<String>; 3] = [first, second, last].map(&mut lines);
        let behind = self.lines - i64::try_from(parts[2].len()).unwrap() + i64::from(PARTITIONS);
        Round { parts, fresh, fresh_to: position(behind), unreadable, messages, expected }
    }

    /// An event for each partition.
    fn signs_of_life(&mut self) -> Vec<Message> {
        let seed = self.rng.u64(..);
        let in_partition = |partition| {
            let mut dids = (0..).map(|number| did(seed, number));
            dids.find(|did| partition_of(did, PARTITIONS) == partition).unwrap()
        };
        let dids: Vec<String> = (0..u64::from(PARTITIONS)).map(in_partition).collect();
        dids.into_iter().map(|did| debut(&mut self.rng, did)).collect()
    }

    /// The next line. The stream sees a message when it sends it; when it happened is what it says itself.
    fn line(&mut self, message: &Message) -> String {
        self.lines += 1;
        let mut json: Value = serde_json::from_str(&message.line()).unwrap();
        json["time_us"] = position(self.lines).into();
        json.to_string()
    }
}

/// That of the n-th line.
fn position(number: i64) -> i64 {
    PRESENT + number * PACE
}

fn uri(message: &Message) -> Option<String> {
    if let Body::Record(change) = &message.body { Some(change.uri.clone()) } else { None }
}

/// AT-URI and revision of a record that cannot be read.
fn refused(message: &Message) -> Option<(String, String)> {
    let Body::Record(change) = &message.body else { return None };
    let is_unreadable = matches!(&change.version, Some(version) if version.content == Content::Unreadable);
    is_unreadable.then(|| (change.uri.clone(), change.rev.clone()))
}

/// Those about accounts come after the first record of each: before that the gateway has no use for them, and forgets them.
fn known_first(messages: Vec<Message>) -> Vec<Message> {
    let mut known = HashSet::new();
    let mut early: Vec<Message> = Vec::new();
    let mut ordered = Vec::new();
    for message in messages {
        if uri(&message).is_none() && !known.contains(&message.did) {
            early.push(message);
            continue;
        }
        let did = message.did.clone();
        ordered.push(message);
        if !known.contains(&did) {
            ordered.extend(early.extract_if(.., |held| held.did == did));
            known.insert(did);
        }
    }
    assert!(early.is_empty());
    ordered
}
