use ipld_core::{ipld, ipld::Ipld};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::car::tests::{car, cid},
    *,
};

const EVENT: &str = "community.lexicon.calendar.event";
const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const TIME: &str = "2026-08-01T12:00:00.123456Z";
const TIME_US: i64 = 1_785_585_600_123_456;

fn wanted() -> Wanted {
    Wanted::new([EVENT])
}

fn frame(t: &str, body: &Ipld) -> Vec<u8> {
    let mut bytes = serde_ipld_dagcbor::to_vec(&ipld!({ "op": 1, "t": t })).unwrap();
    bytes.extend(serde_ipld_dagcbor::to_vec(body).unwrap());
    bytes
}

/// A commit under construction.
struct Draft {
    seq: i64,
    rev: &'static str,
    since: Option<&'static str>,
    too_big: bool,
    ops: Vec<(&'static str, String, Option<Cid>)>,
    blocks: Vec<(Cid, Vec<u8>)>,
    tail: Vec<u8>,
}

impl Draft {
    fn new(seq: i64, rev: &'static str) -> Self {
        Self { seq, rev, since: None, too_big: false, ops: Vec::new(), blocks: Vec::new(), tail: Vec::new() }
    }

    fn since(mut self, rev: &'static str) -> Self {
        self.since = Some(rev);
        self
    }

    fn put(self, action: &'static str, path: &str, record: &Ipld) -> Self {
        let block = serde_ipld_dagcbor::to_vec(record).unwrap();
        self.put_block(action, path, block)
    }

    fn put_block(mut self, action: &'static str, path: &str, block: Vec<u8>) -> Self {
        let id = cid(&block);
        self.ops.push((action, path.to_owned(), Some(id)));
        self.blocks.push((id, block));
        self
    }

    fn delete(mut self, path: &str) -> Self {
        self.ops.push(("delete", path.to_owned(), None));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let ops: Vec<Ipld> = self
            .ops
            .iter()
            .map(|(action, path, cid)| {
                let cid = cid.map_or(Ipld::Null, Ipld::Link);
                ipld!({ "action": *action, "path": path.as_str(), "cid": cid })
            })
            .collect();
        let mut blocks = car(&self.blocks);
        blocks.extend(&self.tail);
        let since = self.since.map_or(Ipld::Null, |rev| Ipld::String(rev.to_owned()));
        frame(
            "#commit",
            &ipld!({
                "seq": self.seq, "repo": DID, "rev": self.rev, "since": since, "time": TIME, "tooBig": self.too_big,
                "commit": Ipld::Link(cid(b"commit")), "prevData": Ipld::Link(cid(b"data")), "rebase": false, "blobs": [],
                "ops": ops, "blocks": Ipld::Bytes(blocks),
            }),
        )
    }
}

fn lines(reading: &Reading) -> Vec<Value> {
    reading.frames.iter().map(|frame| serde_json::from_str(&frame.json).unwrap()).collect()
}

fn read_one(bytes: &[u8]) -> Reading {
    read(bytes, &wanted(), &mut Revs::default()).unwrap()
}

fn path(rkey: &str) -> String {
    format!("{EVENT}/{rkey}")
}

#[test]
fn a_commit_becomes_one_line_an_operation() {
    let record = ipld!({ "$type": EVENT, "name": "Café", "n": 3, "image": Ipld::Link(cid(b"blob")), "b": Ipld::Bytes(vec![255]) });
    let draft = Draft::new(41, "3l3qo2vutsw2b")
        .put("create", &path("a"), &record)
        .put("create", "app.bsky.feed.post/x", &ipld!({ "text": "not ours" }))
        .put("update", &path("b"), &ipld!({ "name": "B" }))
        .delete(&path("c"));
    let reading = read_one(&draft.bytes());

    let cursors: Vec<i64> = reading.frames.iter().map(|frame| frame.cursor).collect();
    assert_eq!((cursors, reading.cursor, reading.time_us), (vec![40, 40, 41], Some(41), Some(TIME_US)));
    assert!(reading.frames.iter().all(|frame| frame.did == DID && frame.commit_collection.as_deref() == Some(EVENT)));
    assert_eq!(
        lines(&reading),
        [
            json!({"did": DID, "time_us": TIME_US, "kind": "commit", "commit": {
                "rev": "3l3qo2vutsw2b", "operation": "create", "collection": EVENT, "rkey": "a",
                "cid": draft.blocks[0].0.to_string(),
                "record": {"$type": EVENT, "name": "Café", "n": 3, "b": {"$bytes": "/w"},
                    "image": {"$link": cid(b"blob").to_string()}}}}),
            json!({"did": DID, "time_us": TIME_US, "kind": "commit", "commit": {
                "rev": "3l3qo2vutsw2b", "operation": "update", "collection": EVENT, "rkey": "b",
                "cid": draft.blocks[2].0.to_string(), "record": {"name": "B"}}}),
            json!({"did": DID, "time_us": TIME_US, "kind": "commit", "commit": {
                "rev": "3l3qo2vutsw2b", "operation": "delete", "collection": EVENT, "rkey": "c"}}),
        ]
    );
}

#[test]
fn a_watched_record_is_told_without_its_content_and_its_repository_is_not_remembered() {
    let mut revs = Revs::default();
    let wanted = wanted().watching(["app.bsky.actor.profile"]);
    let record = ipld!({ "displayName": "A" });
    let first = Draft::new(7, "3l3qo2vutsw2b").put("update", "app.bsky.actor.profile/self", &record);
    let reading = read(&first.bytes(), &wanted, &mut revs).unwrap();
    assert_eq!(
        lines(&reading),
        [json!({"did": DID, "time_us": TIME_US, "kind": "commit", "commit": {
            "rev": "3l3qo2vutsw2b", "operation": "update", "collection": "app.bsky.actor.profile", "rkey": "self"}})]
    );
    assert_eq!((&reading.frames[0].commit_collection, reading.kind), (&None, "commit"));
    let later = Draft::new(9, "3l3qo2vutsw2e").since("3l3qo2vutsw2c").delete("app.bsky.actor.profile/self");
    assert_eq!(read(&later.bytes(), &wanted, &mut revs).unwrap().frames.len(), 1, "a gap is no loss there");
}

#[test]
fn identity_account_and_sync_take_their_form() {
    let identity = read_one(&frame("#identity", &ipld!({ "seq": 5, "did": DID, "time": TIME, "handle": "a.test" })));
    assert_eq!(
        identity.frames[0].json,
        format!(
            r#"{{"did":"{DID}","time_us":{TIME_US},"kind":"identity","identity":{{"did":"{DID}","handle":"a.test","seq":5,"time":"{TIME}"}}}}"#
        )
    );
    let account = ipld!({ "seq": 6, "did": DID, "time": TIME, "active": false, "status": "deactivated" });
    assert_eq!(
        lines(&read_one(&frame("com.atproto.sync.subscribeRepos#account", &account))),
        [json!({"did": DID, "time_us": TIME_US, "kind": "account", "account":
            {"active": false, "did": DID, "seq": 6, "status": "deactivated", "time": TIME}})]
    );
    let sync = ipld!({ "seq": 7, "did": DID, "time": TIME, "rev": "3l3qo2vutsw2b", "blocks": Ipld::Bytes(vec![]) });
    assert_eq!(
        lines(&read_one(&frame("#sync", &sync))),
        [
            json!({"did": DID, "time_us": TIME_US, "kind": "resync", "resync": {"rev": "3l3qo2vutsw2b", "reason": "sync"}})
        ]
    );
}

#[test]
fn a_tampered_or_absent_block_is_read_again_from_the_repository() {
    let mut draft = Draft::new(9, "3l3qo2vutsw2b").put("create", &path("a"), &ipld!({ "name": "A" }));
    draft = draft.put("create", &path("b"), &ipld!({ "name": "B" })).delete(&path("c"));
    draft.blocks[0].1[3] ^= 1;
    let reading = read_one(&draft.bytes());
    assert_eq!(
        lines(&reading)[0],
        json!({"did": DID, "time_us": TIME_US, "kind": "resync", "resync":
            {"rev": "3l3qo2vutsw2b", "reason": "missing_block", "collection": EVENT, "rkey": "a"}})
    );
    assert_eq!(reading.frames.len(), 3, "the other operations are unharmed");

    draft.blocks.clear();
    draft.tail = vec![0xff; 20];
    let reasons: Vec<Value> = lines(&read_one(&draft.bytes())).iter().map(|l| l["resync"]["reason"].clone()).collect();
    assert_eq!(reasons, [json!("undecodable"), json!("undecodable"), Value::Null]);
}

#[test]
fn a_record_without_a_json_form_is_passed_on_as_null() {
    let mut deep = vec![0x81; 90];
    deep.push(0x80);
    let huge = serde_ipld_dagcbor::to_vec(&Ipld::String("x".repeat(MAX_RECORD + 1))).unwrap();
    for block in [deep, huge, vec![0xa2, 0x61, b'a', 1, 0x61, b'a', 2]] {
        let reading = read_one(&Draft::new(9, "3l3qo2vutsw2b").put_block("create", &path("a"), block.clone()).bytes());
        let commit = &lines(&reading)[0]["commit"];
        assert_eq!((&commit["record"], &commit["cid"]), (&Value::Null, &json!(cid(&block).to_string())));
        assert!(commit.as_object().unwrap().contains_key("record"));
    }
}

#[test]
fn a_commit_that_hides_its_operations_is_read_again() {
    let too_big = |draft: Draft| {
        let reading = read_one(&draft.bytes());
        assert_eq!(
            lines(&reading),
            [json!({"did": DID, "time_us": TIME_US, "kind": "resync", "resync":
                {"rev": "3l3qo2vutsw2b", "reason": "too_big"}})]
        );
        assert_eq!(reading.frames[0].cursor, 9);
    };
    let mut draft = Draft::new(9, "3l3qo2vutsw2b");
    draft.too_big = true;
    too_big(draft);
    let mut draft = Draft::new(9, "3l3qo2vutsw2b");
    draft.ops = (0..=MAX_OPS).map(|n| ("delete", format!("app.bsky.feed.like/{n}"), None)).collect();
    too_big(draft);
    let mut draft = Draft::new(9, "3l3qo2vutsw2b").delete(&path("a"));
    draft.tail = vec![0; MAX_BLOCKS];
    too_big(draft);
}

#[test]
fn a_gap_in_the_revisions_is_read_again_after_its_operations() {
    let mut revs = Revs::default();
    let mut read = |draft: Draft| read(&draft.bytes(), &wanted(), &mut revs).unwrap();
    // untracked as long as nothing wanted was seen
    let post = "app.bsky.feed.post/x";
    assert_eq!(read(Draft::new(1, "3l3qo2vutsw2b").since("3kkkkkkkkkkkk").delete(post)).kind, "unwanted");
    assert_eq!(read(Draft::new(2, "3l3qo2vutsw2c").since("3jjjjjjjjjjjj").delete(&path("a"))).frames.len(), 1);
    // other commits of the repository move its revision on
    assert_eq!(read(Draft::new(3, "3l3qo2vutsw2d").since("3l3qo2vutsw2c").delete(post)).kind, "unwanted");
    assert_eq!(read(Draft::new(4, "3l3qo2vutsw2e").since("3l3qo2vutsw2d").delete(&path("a"))).frames.len(), 1);

    let gap = read(Draft::new(6, "3l3qo2vutsw2h").since("3l3qo2vutsw2g").delete(&path("b")));
    let gap_lines = lines(&gap);
    assert_eq!(gap_lines[0]["commit"]["rkey"], "b");
    assert_eq!(gap_lines[1]["resync"], json!({"rev": "3l3qo2vutsw2h", "reason": "gap"}));
    assert_eq!((gap.frames[0].cursor, gap.frames[1].cursor), (5, 6));
    let gap = read(Draft::new(7, "3l3qo2vutsw2j").since("3l3qo2vutsw2i").delete(post));
    assert_eq!(lines(&gap)[0]["resync"]["reason"], "gap");

    let stale = read(Draft::new(8, "3l3qo2vutsw2h").since("3l3qo2vutsw2g").delete(&path("b")));
    assert_eq!((stale.kind, stale.frames.len(), stale.cursor), ("stale", 0, Some(8)));
}

#[test]
fn a_sync_moves_the_revision_on() {
    let mut revs = Revs::default();
    let first = Draft::new(1, "3l3qo2vutsw2b").delete(&path("a")).bytes();
    read(&first, &wanted(), &mut revs).unwrap();
    let sync = ipld!({ "seq": 2, "did": DID, "time": TIME, "rev": "3l3qo2vutsw2f", "blocks": Ipld::Bytes(vec![]) });
    read(&frame("#sync", &sync), &wanted(), &mut revs).unwrap();
    let next = Draft::new(3, "3l3qo2vutsw2g").since("3l3qo2vutsw2f").delete(&path("a")).bytes();
    assert_eq!(read(&next, &wanted(), &mut revs).unwrap().frames.len(), 1);
}

#[test]
fn the_memory_of_revisions_is_bounded() {
    let mut revs = Revs::default();
    for n in 0..3 * MAX_REVS {
        revs.remember(&n.to_string(), *b"3l3qo2vutsw2b");
    }
    assert!(revs.young.len() + revs.old.len() <= MAX_REVS);
    assert!(revs.last(&(3 * MAX_REVS - 1).to_string()).is_some());
}

#[test]
fn the_words_of_the_server_are_heeded() {
    let refusal = |error: &str| {
        let mut bytes = serde_ipld_dagcbor::to_vec(&ipld!({ "op": -1 })).unwrap();
        bytes.extend(serde_ipld_dagcbor::to_vec(&ipld!({ "error": error, "message": "so it is" })).unwrap());
        read_one(&bytes).notice
    };
    assert!(matches!(refusal("FutureCursor"), Some(Notice::CursorRefused)));
    assert!(matches!(refusal("ConsumerTooSlow"), Some(Notice::Closing(why)) if why == "ConsumerTooSlow: so it is"));
    let info = |name: &str| read_one(&frame("#info", &ipld!({ "name": name }))).notice;
    assert!(matches!(info("OutdatedCursor"), Some(Notice::Gap)));
    assert!(info("Weather").is_none());
    let other = read_one(&frame("#labels", &ipld!({ "seq": 3 })));
    assert_eq!((other.kind, other.frames.len()), ("other", 0));
}

#[test]
fn deep_nesting_anywhere_in_a_frame_is_refused() {
    let deep = [0x81].repeat(1_000_000);
    let header = serde_ipld_dagcbor::to_vec(&ipld!({ "op": 1, "t": "#commit" })).unwrap();
    let unknown_field = [header.clone(), vec![0xa1, 0x61, b'x'], deep.clone()].concat();
    let ops = [header.clone(), vec![0xa1, 0x63, b'o', b'p', b's'], deep.clone()].concat();
    let tags = [header, vec![0xa1, 0x61, b'x'], [0xd8, 0x2a].repeat(1_000_000)].concat();
    for bytes in [deep, unknown_field, ops, tags] {
        assert!(read(&bytes, &wanted(), &mut Revs::default()).is_err());
    }
}

#[test]
fn the_cursor_is_appended_to_what_the_endpoint_brings() {
    let url = Url::parse("wss://relay.example/xrpc/com.atproto.sync.subscribeRepos").unwrap();
    assert_eq!(request(&url, None), url);
    assert_eq!(request(&url, Some(12)).query(), Some("cursor=12"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        let _ = read(&bytes, &wanted(), &mut Revs::default());
    }

    #[test]
    fn a_damaged_frame_never_shows_a_record_that_was_not_written(at in 0_usize..600, flip in 1_u8..) {
        let mut bytes = Draft::new(9, "3l3qo2vutsw2b")
            .put("create", &path("a"), &ipld!({ "name": "A", "n": 1 }))
            .delete(&path("b"))
            .bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= flip;
        }
        if let Ok(reading) = read(&bytes, &wanted(), &mut Revs::default()) {
            for line in lines(&reading) {
                let record = &line["commit"]["record"];
                prop_assert!(record.is_null() || *record == json!({ "name": "A", "n": 1 }), "{record}");
            }
        }
    }
}
