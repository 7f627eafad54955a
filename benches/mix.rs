//! A long stretch of a stream as the network has it: new events and answers, edits, deletions, and what comes again late.
//!
//! Events to answers are as 14,600 to 6,270, people to records as 318 to 14,600 and 1,430 to 6,270, which is the network of
//! August 2026. How much is edited, deleted and sent again is an assumption.

use std::{
    collections::VecDeque,
    io::{BufWriter, Write},
};

use anyhow::Result;
use fastrand::Rng;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::records::{BEGINNING, EVENT, RSVP, cid_of, commit, datetime, did, event, tid, uri};

/// Messages of a kind among a thousand; the rest are new answers.
const EVENTS: u32 = 400;
const EDITS: u32 = 200;
const REPEATS: u32 = 180;
const DELETIONS: u32 = 50;
/// What comes again is one of so many messages before it.
const MEMORY: usize = 10_000;
/// Records for each author of events and for each guest.
const BY_AUTHOR: u32 = 46;
const BY_GUEST: u32 = 4;

/// Messages in a file, a line each.
pub(crate) struct Mix {
    pub(crate) file: NamedTempFile,
    /// How many there are.
    pub(crate) messages: usize,
    /// How many events there are after the last of them.
    pub(crate) events: u64,
}

#[derive(Clone)]
struct Record {
    did: String,
    collection: &'static str,
    rkey: String,
}

/// A message that may come again.
struct Sent {
    record: Record,
    rev: String,
    version: Option<(String, Value)>,
}

struct Maker {
    rng: Rng,
    seed: u64,
    at: i64,
    number: usize,
    people: usize,
    events: Vec<(Record, String)>,
    answers: Vec<Record>,
    sent: VecDeque<Sent>,
}

/// Makes the messages up: the same for the same seed.
pub(crate) fn write(seed: u64, messages: usize) -> Result<Mix> {
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        seed,
        at: BEGINNING,
        number: 0,
        people: 1,
        events: Vec::new(),
        answers: Vec::new(),
        sent: VecDeque::new(),
    };
    let file = NamedTempFile::new()?;
    let mut lines = BufWriter::new(file.as_file());
    for _ in 0..messages {
        writeln!(lines, "{}", maker.next())?;
    }
    lines.flush()?;
    drop(lines);
    Ok(Mix { file, messages, events: maker.events.len() as u64 })
}

impl Maker {
    fn next(&mut self) -> String {
        self.at += 1_000;
        self.number += 1;
        let kind = self.rng.u32(..1_000);
        if self.events.len() < 100 || kind < EVENTS {
            return self.create_event();
        }
        if kind < EVENTS + EDITS {
            return self.edit();
        }
        if kind < EVENTS + EDITS + REPEATS {
            return self.repeat();
        }
        if kind < EVENTS + EDITS + REPEATS + DELETIONS {
            return self.delete();
        }
        self.answer()
    }

    fn create_event(&mut self) -> String {
        let record = Record { did: self.person(BY_AUTHOR), collection: EVENT, rkey: tid(self.at, 7) };
        let content = event(&mut self.rng, self.number, self.at);
        let cid = cid_of(&content.to_string());
        self.events.push((record.clone(), cid.clone()));
        self.send(record, Some((cid, content)))
    }

    fn answer(&mut self) -> String {
        let (event, cid) = self.rng.choice(&self.events).unwrap_or(&self.events[0]).clone();
        let kind = self.rng.choice(["going", "interested", "notgoing"]).unwrap_or("going");
        let content = json!({
            "$type": RSVP, "status": format!("{RSVP}#{kind}"), "createdAt": datetime(self.at),
            "subject": { "uri": uri(&event.did, EVENT, &event.rkey), "cid": cid },
        });
        let record = Record { did: self.person(BY_GUEST), collection: RSVP, rkey: tid(self.at, 9) };
        self.answers.push(record.clone());
        self.send(record, Some((cid_of(&content.to_string()), content)))
    }

    fn edit(&mut self) -> String {
        let chosen = self.rng.usize(..self.events.len());
        let content = event(&mut self.rng, self.number, self.at);
        let cid = cid_of(&content.to_string());
        self.events[chosen].1.clone_from(&cid);
        self.send(self.events[chosen].0.clone(), Some((cid, content)))
    }

    fn delete(&mut self) -> String {
        let is_answer = self.rng.bool() && !self.answers.is_empty();
        let record = if is_answer {
            let chosen = self.rng.usize(..self.answers.len());
            self.answers.swap_remove(chosen)
        } else {
            let chosen = self.rng.usize(..self.events.len());
            self.events.swap_remove(chosen).0
        };
        self.send(record, None)
    }

    /// Whoever has the record or a newer one by now is told nothing new.
    fn repeat(&mut self) -> String {
        let chosen = self.rng.usize(..self.sent.len());
        line(&self.sent[chosen], self.at)
    }

    fn send(&mut self, record: Record, version: Option<(String, Value)>) -> String {
        let sent = Sent { record, rev: tid(self.at, 1), version };
        let line = line(&sent, self.at);
        if self.sent.len() == MEMORY {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
        line
    }

    /// Somebody who is new once in so many times.
    fn person(&mut self, records: u32) -> String {
        if self.rng.u32(..records) == 0 {
            self.people += 1;
        }
        // Repositories of authors and of guests are different ones.
        let number = self.rng.usize(..self.people) * 2 + usize::from(records == BY_GUEST);
        did(self.seed, number)
    }
}

fn line(sent: &Sent, at: i64) -> String {
    let Sent { record, rev, version } = sent;
    let version = version.as_ref().map(|(cid, content)| (cid.as_str(), content));
    commit(&record.did, at, rev, record.collection, &record.rkey, version)
}
