//! Jetstream, first version: `/subscribe`, one JSON text a message, uncompressed.
//!
//! The server's text is passed on as it came; only what routing needs is read. The server's filter is not relied upon.
//! Newer servers add a sequence number to their messages: it belongs to one server, so the time stays the cursor.

use std::borrow::Cow;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use url::Url;

use super::frame::{Frame, Reading, Wanted};

/// Parameters that a subscription sets itself and an endpoint may not.
pub(super) const PARAMETERS: &[&str] =
    &["compress", "cursor", "maxMessageSizeBytes", "requireHello", "wantedCollections", "wantedDids"];
/// How many collections a server lets itself be asked for.
pub(super) const MAX_COLLECTIONS: usize = 100;
/// Servers and proxies in between begin to refuse longer addresses.
const MAX_URL: usize = 2_000;

/// The address to connect to and, where the filter does not fit into it, the message to send first.
pub(super) fn request(endpoint: &Url, wanted: &Wanted, cursor: Option<i64>) -> anyhow::Result<(Url, Option<String>)> {
    let mut base = endpoint.clone();
    if let Some(cursor) = cursor {
        base.query_pairs_mut().append_pair("cursor", &cursor.to_string());
    }
    let mut url = base.clone();
    for collection in wanted.collections() {
        url.query_pairs_mut().append_pair("wantedCollections", collection);
    }
    if url.as_str().len() <= MAX_URL {
        return Ok((url, None));
    }
    base.query_pairs_mut().append_pair("requireHello", "true");
    Ok((base, Some(hello(wanted)?)))
}

fn hello(wanted: &Wanted) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Hello<'a> {
        r#type: &'static str,
        payload: Payload<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        wanted_collections: Vec<&'a str>,
        wanted_dids: [&'a str; 0],
        max_message_size_bytes: u32,
    }
    let payload = Payload { wanted_collections: wanted.collections(), wanted_dids: [], max_message_size_bytes: 0 };
    Ok(serde_json::to_string(&Hello { r#type: "options_update", payload })?)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    did: Cow<'a, str>,
    time_us: i64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    commit: Option<Commit<'a>>,
}

#[derive(Deserialize)]
struct Commit<'a> {
    #[serde(borrow)]
    collection: Cow<'a, str>,
}

/// Reads one message; fails if it is no message of a Jetstream.
pub(super) fn read(text: &str, wanted: &Wanted) -> anyhow::Result<Reading> {
    let Envelope { did, time_us, kind, commit } = serde_json::from_str(text)?;
    let mut reading = Reading { cursor: Some(time_us), time_us: Some(time_us), ..Reading::of("other") };
    let collection = match &*kind {
        "commit" => {
            let Commit { collection } = commit.context("a commit message without a commit")?;
            let (is_record, is_watched) = (wanted.has(&collection), wanted.watches(&collection));
            if !is_record && !is_watched {
                reading.kind = "unwanted";
                return Ok(reading);
            }
            reading.kind = "commit";
            is_record.then(|| collection.into_owned())
        }
        "identity" => {
            reading.kind = "identity";
            None
        }
        "account" => {
            reading.kind = "account";
            None
        }
        _ => return Ok(reading),
    };
    // in valid JSON a line break is white space between tokens; our files hold one message a line
    let json = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text.to_owned() };
    reading.frames.push(Frame {
        endpoint: 0,
        did: did.into_owned(),
        cursor: time_us,
        json,
        commit_collection: collection,
    });
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENT: &str = "community.lexicon.calendar.event";

    fn wanted() -> Wanted {
        Wanted::new([EVENT, "app.example.*"])
    }

    fn url() -> Url {
        Url::parse("wss://stream.example/subscribe").unwrap()
    }

    #[test]
    fn a_short_filter_stands_in_the_address() {
        let (url, hello) = request(&url(), &wanted(), Some(1_725_911_162_329_308)).unwrap();
        assert_eq!(
            url.as_str(),
            "wss://stream.example/subscribe?cursor=1725911162329308\
             &wantedCollections=community.lexicon.calendar.event&wantedCollections=app.example.*"
        );
        assert_eq!(hello, None);
    }

    #[test]
    fn a_long_filter_is_sent_as_a_message() {
        let many = Wanted::new((0..90).map(|n| format!("{EVENT}.number{n}")));
        let (url, hello) = request(&url(), &many, Some(7)).unwrap();
        assert_eq!(url.as_str(), "wss://stream.example/subscribe?cursor=7&requireHello=true");
        let hello: serde_json::Value = serde_json::from_str(&hello.unwrap()).unwrap();
        assert_eq!(hello["type"], "options_update");
        assert_eq!(hello["payload"]["wantedCollections"].as_array().unwrap().len(), 90);
        assert_eq!(hello["payload"]["wantedDids"], serde_json::json!([]));
    }

    #[test]
    fn wanted_messages_pass_word_for_word() {
        let commit = r#"{"did":"did:plc:a", "time_us":1725911162329308,"kind":"commit","cursor":12,"commit":{"rev":"3l","operation":"create","collection":"community.lexicon.calendar.event","rkey":"é","record":{"n":1.0},"cid":"b"}}"#;
        let reading = read(commit, &wanted()).unwrap();
        assert_eq!(reading.cursor, Some(1_725_911_162_329_308));
        let [frame] = reading.frames.as_slice() else { unreachable!("one frame") };
        assert_eq!(
            (frame.json.as_str(), frame.did.as_str(), frame.cursor),
            (commit, "did:plc:a", 1_725_911_162_329_308)
        );
        assert_eq!(frame.commit_collection.as_deref(), Some(EVENT));

        for kind in ["identity", "account"] {
            let reading = read(&format!(r#"{{"did":"did:web:b","time_us":2,"kind":"{kind}"}}"#), &wanted()).unwrap();
            assert_eq!((reading.kind, reading.frames.len()), (kind, 1));
            assert_eq!(reading.frames[0].commit_collection, None);
        }
    }

    #[test]
    fn watched_collections_are_asked_for_and_concern_the_account() {
        let wanted = wanted().watching(["app.bsky.actor.profile"]);
        let (url, _) = request(&url(), &wanted, None).unwrap();
        assert!(url.as_str().ends_with("&wantedCollections=app.bsky.actor.profile"), "{url}");
        let text = r#"{"did":"d","time_us":9,"kind":"commit","commit":{"collection":"app.bsky.actor.profile"}}"#;
        let reading = read(text, &wanted).unwrap();
        let [frame] = reading.frames.as_slice() else { unreachable!("one frame") };
        assert_eq!((frame.commit_collection.as_deref(), reading.kind), (None, "commit"));
    }

    #[test]
    fn other_collections_and_kinds_only_move_the_cursor() {
        for text in [
            r#"{"did":"d","time_us":9,"kind":"commit","commit":{"collection":"app.bsky.feed.post"}}"#,
            r#"{"did":"d","time_us":9,"kind":"commit","commit":{"collection":"app.examples.x"}}"#,
            r#"{"did":"d","time_us":9,"kind":"weather"}"#,
        ] {
            let reading = read(text, &wanted()).unwrap();
            assert_eq!((reading.cursor, reading.frames.len()), (Some(9), 0), "{text}");
        }
        let text = r#"{"did":"d","time_us":9,"kind":"commit","commit":{"collection":"app.example.x"}}"#;
        assert_eq!(read(text, &wanted()).unwrap().frames.len(), 1);
    }

    #[test]
    fn a_message_is_one_line() {
        let reading = read("{\"did\":\"d\",\r\n\"time_us\":9,\n\"kind\":\"account\"}", &wanted()).unwrap();
        assert_eq!(reading.frames[0].json, r#"{"did":"d",  "time_us":9, "kind":"account"}"#);
    }

    #[test]
    fn half_messages_are_errors() {
        for text in ["", "{}", "[]", r#"{"did":"d","time_us":9,"kind":"commit"}"#, r#"{"did":"d","kind":"account"}"#] {
            assert!(read(text, &wanted()).is_err(), "{text}");
        }
        assert!(read(&"[".repeat(1_000_000), &wanted()).is_err());
        assert!(read(&format!(r#"{{"did":"d","x":{}"#, "[".repeat(1_000_000)), &wanted()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = read(&text, &wanted());
        }
    }
}
