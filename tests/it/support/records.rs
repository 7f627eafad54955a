//! Records as the network has them, made up: the same for the same seed. Needs nothing of the other files here, so that
//! measurements can use it too.

use std::collections::BTreeMap;

use fastrand::Rng;
use ipld_core::cid::{Cid, multihash::Multihash};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Collection of events.
pub(crate) const EVENT: &str = "community.lexicon.calendar.event";
/// Collection of answers.
pub(crate) const RSVP: &str = "community.lexicon.calendar.rsvp";
/// The first instant that anything here happens at, in microseconds.
pub(crate) const BEGINNING: i64 = 1_750_000_000_000_000;

const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
/// Authors of events, and people who answer, on the network of August 2026.
const AUTHORS: usize = 318;
const GUESTS: usize = 1_430;

/// A stretch of the network's history.
pub(crate) struct Network {
    /// One message each, in the order of their time.
    pub(crate) lines: Vec<String>,
    /// What a gateway knows after the last of them, in the order of the URIs.
    pub(crate) events: Vec<Row>,
    /// How many answers are shown.
    pub(crate) answers: usize,
}

/// What is to be known of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// AT-URI.
    pub(crate) uri: String,
    /// Version.
    pub(crate) cid: String,
    /// Title.
    pub(crate) name: String,
    /// Answers by kind: going, interested, not going.
    pub(crate) counts: [i32; 3],
}

/// So many new events of the authors and so many answers to them, all by people who answer each event once; a twentieth
/// of the answers comes before its event.
pub(crate) fn network(seed: u64, events: usize, rsvps: usize) -> Network {
    let mut rng = Rng::with_seed(seed);
    let mut known: BTreeMap<String, Row> = BTreeMap::new();
    let mut timed: Vec<(i64, String)> = Vec::new();
    let mut made: Vec<(i64, String, String)> = Vec::new();
    for number in 0..events {
        let at = BEGINNING + i64::try_from(number).unwrap() * 1_000_000;
        let did = did(seed, rng.usize(..AUTHORS));
        let record = event(&mut rng, number, at);
        let cid = cid_of(&record.to_string());
        let rkey = tid(at, 7);
        let uri = uri(&did, EVENT, &rkey);
        let name = record["name"].as_str().unwrap().to_owned();
        timed.push((at, commit(&did, at, &tid(at, 1), EVENT, &rkey, Some((&cid, &record)))));
        known.insert(uri.clone(), Row { uri: uri.clone(), cid: cid.clone(), name, counts: [0; 3] });
        made.push((at, uri, cid));
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < rsvps {
        let (guest, chosen) = (rng.usize(..GUESTS), rng.usize(..made.len()));
        if !answered.insert((guest, chosen)) {
            continue;
        }
        let (event_at, event_uri, event_cid) = &made[chosen];
        let later = if rng.u8(..20) == 0 { -500_001 } else { 1_000_001 * rng.i64(1..4_000) };
        let at = event_at + later + i64::try_from(answered.len()).unwrap();
        let did = did(seed, AUTHORS + guest);
        let kind = rng.usize(..3);
        let status = ["going", "interested", "notgoing"][kind];
        let record = json!({
            "$type": RSVP, "status": format!("{RSVP}#{status}"), "createdAt": datetime(at),
            "subject": { "uri": event_uri, "cid": event_cid },
        });
        let cid = cid_of(&record.to_string());
        timed.push((at, commit(&did, at, &tid(at, 1), RSVP, &tid(at, 9), Some((&cid, &record)))));
        known.get_mut(event_uri).unwrap().counts[kind] += 1;
    }
    timed.sort();
    let lines = timed.into_iter().map(|(_, line)| line).collect();
    Network { lines, events: known.into_values().collect(), answers: rsvps }
}

/// A realistic event of about a kilobyte.
pub(crate) fn event(rng: &mut Rng, number: usize, at: i64) -> Value {
    const WORDS: [&str; 16] = [
        "meetup", "evening", "talks", "garden", "music", "open", "Straße", "people", "bring", "your", "own", "coffee",
        "together", "rust", "日本", "workshop",
    ];
    let words =
        |rng: &mut Rng, count: usize| (0..count).map(|_| WORDS[rng.usize(..WORDS.len())]).collect::<Vec<_>>().join(" ");
    let starts = at + rng.i64(1..8_000) * 3_600_000_000;
    let (latitude, longitude) = (rng.f64() * 120.0 - 60.0, rng.f64() * 340.0 - 170.0);
    let mode = ["inperson", "virtual", "hybrid"][rng.usize(..3)];
    json!({
        "$type": EVENT,
        "name": format!("{} № {number}", words(rng, 3)),
        "description": words(rng, 70),
        "createdAt": datetime(at),
        "startsAt": datetime(starts),
        "endsAt": datetime(starts + 7_200_000_000),
        "mode": format!("{EVENT}#{mode}"),
        "status": format!("{EVENT}#scheduled"),
        "locations": [
            { "$type": "community.lexicon.location.geo", "latitude": format!("{latitude:.6}"),
              "longitude": format!("{longitude:.6}"), "name": "the place" },
            { "$type": "community.lexicon.location.address", "country": "DE", "locality": "Berlin",
              "street": format!("Weg {number}") },
        ],
        "uris": [{ "uri": format!("https://example.com/e/{number}"), "name": "Page" }],
    })
}

/// The line of one operation; without a version it is a deletion.
#[expect(clippy::too_many_arguments, reason = "as many as a commit has parts")]
pub(crate) fn commit(
    did: &str,
    at: i64,
    rev: &str,
    collection: &str,
    rkey: &str,
    version: Option<(&str, &Value)>,
) -> String {
    let mut commit = json!({ "rev": rev, "operation": "delete", "collection": collection, "rkey": rkey });
    if let Some((cid, record)) = version {
        commit["operation"] = json!("update");
        commit["cid"] = json!(cid);
        commit["record"] = record.clone();
    }
    json!({ "did": did, "time_us": at, "kind": "commit", "commit": commit }).to_string()
}

/// The content identifier of a record.
pub(crate) fn cid_of(record: &str) -> String {
    let hash = Multihash::wrap(0x12, &Sha256::digest(record)).unwrap();
    Cid::new_v1(0x71, hash).to_string()
}

/// A repository of this seed.
pub(crate) fn did(seed: u64, number: usize) -> String {
    let hash = Sha256::digest(format!("{seed} {number}"));
    let text: String = hash.iter().take(24).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    format!("did:plc:{text}")
}

/// AT-URI of a record.
pub(crate) fn uri(did: &str, collection: &str, rkey: &str) -> String {
    format!("at://{did}/{collection}/{rkey}")
}

/// Timestamp identifier of an instant in microseconds; the clock tells those of one instant apart.
pub(crate) fn tid(at: i64, clock: u16) -> String {
    let bits = at.unsigned_abs() << 10 | u64::from(clock & 1_023);
    let digit = |place: u32| char::from(ALPHABET[usize::try_from((bits >> (5 * place)) & 31).unwrap()]);
    (0..13).rev().map(digit).collect()
}

/// An instant in microseconds, as records write it.
pub(crate) fn datetime(at: i64) -> String {
    chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
