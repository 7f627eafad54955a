//! Good messages made bad in every way that somebody may think of: by their structure, by their text, by their bytes.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, event, tid, uri};

/// Texts that are put in as they are, where a value stood: most of them are no JSON, or no JSON that a `Value` can hold.
const RAW: &[&str] = &[
    r#""\u0000""#,
    r#""a\u0000b""#,
    r#""\ud800""#,
    r#""\udfff\ud800""#,
    "\"\u{0}\"",
    "\"\u{7}\"",
    "1e999",
    "-1e999",
    "1E400",
    "NaN",
    "-0",
    "9999999999999999999999999",
    "-9223372036854775809",
    "18446744073709551615",
    "0.1e-400",
    "01",
    "+1",
    "nul",
    r#"{"a":1,"a":2}"#,
    r#"{"name":"x","name":null,"name":3}"#,
    r#"{"":{"":{"":0}}}"#,
    "[",
    "}",
    r#"""""#,
    "'a'",
    "\u{feff}1",
];
/// Texts of records that no screen, index or parser likes.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\u{202e}evil\u{202c}",
    "\u{200b}",
    "\u{feff}",
    "e\u{301}\u{301}\u{301}\u{301}",
    "🏳️‍🌈",
    "'; DROP TABLE event; --",
    "<script>alert(1)</script>",
    "%s%n",
    "../../etc/passwd",
    "\r\n\r\nHTTP/1.1 200 OK",
    "\u{1b}[2J",
    "javascript:alert(1)",
    "http://[::1",
    "https://user:pass@example.com/",
    "at://",
    "at://did:plc:/x/y",
    "did:plc:",
    "0x10",
    "1,5",
    "NaN",
    "inf",
    "1e400",
    "-91",
    "180.0001",
    "١٢٣",
    "null",
    "true",
    "{}",
];
/// Instants that are none, or far away.
const DATES: &[&str] = &[
    "0000-00-00T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
    "10000-01-01T00:00:00Z",
    "+262143-12-31T23:59:59Z",
    "2025-02-30T00:00:00Z",
    "2025-06-30T23:59:60Z",
    "2025-06-30T24:00:00Z",
    "2025-01-01T00:00:00+99:99",
    "2025-01-01",
    "2025-01-01T00:00",
    "2025-13-01T00:00:00Z",
    "yesterday",
    "1750000000",
    "2025-01-01T00:00:00.999999999999999999999Z",
];
const TIMES: &[i64] = &[
    i64::MIN,
    i64::MAX,
    -1,
    0,
    1,
    -62_135_596_800_000_001,
    253_402_300_800_000_000,
    8_210_266_876_799_999_999,
    -8_334_601_228_800_000_000,
    1 << 53,
];

/// A message that is hostile, malformed, or (one in ten) good after all. Never empty, and one line.
pub(super) fn message(rng: &mut Rng, number: usize) -> Vec<u8> {
    let mut line = good(rng, number);
    let bytes = match rng.u8(..20) {
        0..2 => line.to_string().into_bytes(),
        2..6 => {
            for _ in 0..rng.usize(1..5) {
                let value = odd(rng);
                put(rng, &mut line, value);
            }
            line.to_string().into_bytes()
        }
        6..9 => {
            let raw = RAW[rng.usize(..RAW.len())];
            inserted(rng, line, raw)
        }
        9 => {
            let depth = [40, 127, 128, 129, 1_000, 20_000][rng.usize(..6)];
            let (open, close) = [("[", "]"), (r#"{"a":"#, "}")][rng.usize(..2)];
            let whole = if rng.bool() { close.repeat(depth) } else { String::new() };
            inserted(rng, line, &format!("{}1{whole}", open.repeat(depth)))
        }
        10 => damaged(rng, line.to_string().into_bytes()),
        11 => {
            let mut text = line.to_string().into_bytes();
            text.truncate(rng.usize(1..text.len()));
            text
        }
        12..14 => {
            when(rng, &mut line);
            line.to_string().into_bytes()
        }
        14 => {
            place(rng, &mut line);
            line.to_string().into_bytes()
        }
        15 => {
            name(rng, &mut line);
            line.to_string().into_bytes()
        }
        16 => {
            let long = ["x", "\u{202e}", "é", "\\", "\u{1}"][rng.usize(..5)].repeat(rng.usize(300..20_000));
            put(rng, &mut line, json!(long));
            line.to_string().into_bytes()
        }
        17 => other_kind(rng, &line).to_string().into_bytes(),
        18 => {
            // The same keys twice, with other values: what counts is not agreed upon.
            let other = good(rng, number + 1).to_string();
            format!("{},{}", line.to_string().trim_end_matches('}'), other.trim_start_matches('{')).into_bytes()
        }
        _ => {
            if rng.bool() {
                subject(rng, &mut line);
            } else {
                whole(rng, &mut line);
            }
            line.to_string().into_bytes()
        }
    };
    one_line(bytes)
}

/// A record near the limit, or beyond it.
pub(super) fn huge(rng: &mut Rng, number: usize) -> Vec<u8> {
    let mut line = good(rng, number * 3);
    line["commit"]["record"]["extra"] = json!("x".repeat(rng.usize(900_000..1_100_000)));
    line.to_string().into_bytes()
}

fn good(rng: &mut Rng, number: usize) -> Value {
    let at = BEGINNING + i64::try_from(number).unwrap() * 1_000;
    let (author, rkey) = (did(9, rng.usize(..200)), tid(at, 3));
    let (collection, record) = if number.is_multiple_of(3) {
        (EVENT, event(rng, number, at))
    } else {
        let subject = uri(&did(9, rng.usize(..200)), EVENT, &tid(BEGINNING + rng.i64(0..9_000) * 3_000, 3));
        let subject = json!({ "uri": subject, "cid": cid_of("x") });
        (RSVP, json!({ "$type": RSVP, "status": format!("{RSVP}#going"), "subject": subject }))
    };
    let line = commit(&author, at, &tid(at, 4), collection, &rkey, Some((&cid_of(&record.to_string()), &record)));
    serde_json::from_str(&line).unwrap()
}

/// A value of any type but mostly the wrong one.
fn odd(rng: &mut Rng) -> Value {
    match rng.u8(..10) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(f64::from_bits(rng.u64(..))),
        4 => json!([]),
        5 => json!({}),
        6 => json!([[], {}, null, "a", 1]),
        7 => json!({ "uri": 1, "$type": ["x"], "name": { "a": null } }),
        8 => json!(DATES[rng.usize(..DATES.len())]),
        _ => json!(TEXTS[rng.usize(..TEXTS.len())]),
    }
}

/// Puts a value in the place of any other below the root; seldom of one that decides whose record it is.
fn put(rng: &mut Rng, line: &mut Value, value: Value) {
    let has_record = line.pointer("/commit/record").is_some();
    let at = if has_record && rng.u8(..4) != 0 { line.pointer_mut("/commit/record") } else { Some(line) };
    replace(rng, at.unwrap(), value);
}

fn replace(rng: &mut Rng, at: &mut Value, value: Value) {
    let next = match at {
        Value::Array(entries) if !entries.is_empty() => {
            let place = rng.usize(..entries.len());
            entries.get_mut(place)
        }
        Value::Object(fields) if !fields.is_empty() => {
            let place = rng.usize(..fields.len());
            fields.values_mut().nth(place)
        }
        _ => None,
    };
    match next {
        None => *at = value,
        Some(next) if rng.u8(..3) == 0 => *next = value,
        Some(next) => replace(rng, next, value),
    }
}

/// The line with a raw text in the place of a value.
fn inserted(rng: &mut Rng, mut line: Value, raw: &str) -> Vec<u8> {
    put(rng, &mut line, json!("@@"));
    line.to_string().replacen("\"@@\"", raw, 1).into_bytes()
}

fn damaged(rng: &mut Rng, mut text: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..text.len());
        match rng.u8(..3) {
            0 => text[at] = rng.u8(..),
            1 => text.insert(at, [0, 0xff, 0xc0, 0xed, 0xf5, b'"', b'\\', b'{'][rng.usize(..8)]),
            _ => drop(text.drain(at..text.len().min(at + rng.usize(1..30)))),
        }
        if text.is_empty() {
            text.push(b'x');
        }
    }
    text
}

fn when(rng: &mut Rng, line: &mut Value) {
    if rng.bool() {
        line["time_us"] = json!(TIMES[rng.usize(..TIMES.len())]);
    }
    for field in ["createdAt", "startsAt", "endsAt"] {
        let date = json!(DATES[rng.usize(..DATES.len())]);
        line["commit"]["record"][field] = if rng.u8(..4) == 0 { json!(TIMES[rng.usize(..TIMES.len())]) } else { date };
    }
}

fn place(rng: &mut Rng, line: &mut Value) {
    const KINDS: [&str; 8] = ["geo", "address", "fsq", "hthree", "geo#main", "unknown", "", "\u{0}"];
    let entry = |rng: &mut Rng| {
        let kind = format!("community.lexicon.location.{}", KINDS[rng.usize(..KINDS.len())]);
        let mut entry = json!({ "$type": kind });
        for field in ["latitude", "longitude", "value", "name", "country", "fsq_place_id", "uri", "postalCode"] {
            if rng.bool() {
                entry[field] = odd(rng);
            }
        }
        entry
    };
    let entries: Vec<Value> = (0..rng.usize(..80)).map(|_| entry(rng)).collect();
    line["commit"]["record"]["locations"] = if rng.u8(..4) == 0 { entry(rng) } else { json!(entries) };
    line["commit"]["record"]["uris"] = odd(rng);
}

/// Who, and which record: too long, of another kind, of no kind.
fn name(rng: &mut Rng, line: &mut Value) {
    let long = rng.usize(200..3_000);
    let dids = [
        format!("did:plc:{}", "a".repeat(long)),
        format!("did:web:{}.example.com", "a.".repeat(long)),
        "did:web:localhost%3A3000".to_owned(),
        "did:web:example.com:path".to_owned(),
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme".to_owned(),
        "DID:PLC:abc".to_owned(),
        "did:plc:\u{202e}".to_owned(),
        String::new(),
    ];
    let rkeys =
        ["a".repeat(512), "a".repeat(513), "a".repeat(100_000), ".".into(), "..".into(), "a/b".into(), "%00".into()];
    let cids = [String::new(), "bafy".to_owned(), "Qm".to_owned(), "b".repeat(59), "b".repeat(5_000)];
    let (pointer, value) = match rng.u8(..4) {
        0 => ("/did", dids[rng.usize(..dids.len())].as_str()),
        1 => ("/commit/rkey", rkeys[rng.usize(..rkeys.len())].as_str()),
        2 => ("/commit/rev", ["zzzzzzzzzzzzz", "jzzzzzzzzzzzz", "2222222222222", "", "3l"][rng.usize(..5)]),
        _ => ("/commit/cid", cids[rng.usize(..cids.len())].as_str()),
    };
    *line.pointer_mut(pointer).unwrap() = json!(value);
}

fn subject(rng: &mut Rng, line: &mut Value) {
    let uris = [
        "at://alice.example.com/community.lexicon.calendar.event/a".to_owned(),
        format!("at://{}/{EVENT}/{}", did(9, 1), "a".repeat(512)),
        format!("at://{}/{EVENT}/{}", did(9, 1), "a".repeat(9_000)),
        format!("at://{}/{EVENT}/a#b", did(9, 1)),
        format!("at://{}/{EVENT}", did(9, 1)),
        format!("at://{}/app.bsky.feed.post/a", did(9, 1)),
        format!("at://{}/{EVENT}/a\u{0}", did(9, 1)),
        format!("at://did:web:{}.com/{EVENT}/a", "a".repeat(600)),
    ];
    line["commit"]["record"]["subject"] = match rng.u8(..3) {
        0 => odd(rng),
        1 => json!(uris[rng.usize(..uris.len())]),
        _ => json!({ "uri": uris[rng.usize(..uris.len())], "cid": odd(rng) }),
    };
    line["commit"]["record"]["status"] = odd(rng);
}

/// The record is something else altogether.
fn whole(rng: &mut Rng, line: &mut Value) {
    line["commit"]["record"] = odd(rng);
    if rng.bool() {
        line["commit"]["operation"] = json!(["create", "delete", "", "drop", "UPDATE"][rng.usize(..5)]);
    }
}

fn other_kind(rng: &mut Rng, line: &Value) -> Value {
    let did = &line["did"];
    match rng.u8(..6) {
        0 => {
            json!({ "did": did, "time_us": TIMES[rng.usize(..TIMES.len())], "kind": "account", "account": { "active": false } })
        }
        1 => {
            json!({ "did": did, "kind": "account", "account": { "active": odd(rng), "time": odd(rng), "status": odd(rng) } })
        }
        2 => {
            json!({ "did": did, "kind": "account", "account": { "active": true, "time": DATES[rng.usize(..DATES.len())] } })
        }
        3 => json!({ "did": did, "time_us": odd(rng), "kind": odd(rng), "identity": odd(rng), "commit": odd(rng) }),
        4 => json!({ "did": did, "kind": "resync", "resync": { "collection": odd(rng), "rkey": odd(rng) } }),
        _ => odd(rng),
    }
}

/// Without a line break, and not blank: each is one message.
fn one_line(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in &mut bytes {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    if String::from_utf8_lossy(&bytes).trim().is_empty() { b"x".to_vec() } else { bytes }
}
