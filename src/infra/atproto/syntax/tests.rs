use chrono::{SecondsFormat, SubsecRound, TimeDelta};
use proptest::prelude::*;

use super::*;

fn check<T, E>(parse: impl Fn(&str) -> Result<T, E>, valid: &[&str], invalid: &[&str]) {
    for text in valid {
        assert!(parse(text).is_ok(), "{text} is valid");
    }
    for text in invalid {
        assert!(parse(text).is_err(), "{text} is invalid");
    }
}

#[test]
fn dids() {
    let valid = ["did:plc:z72i7hdynmk6r22z27h6tvur", "did:web:a.b%3A8080", "did:m:v", "did:m:::v", "did:m:-:_:."];
    let invalid = [
        "",
        "did",
        "did:plc",
        "did:plc:",
        "DID:plc:abc",
        "did:PLC:abc",
        "did:plc:abc:",
        "did:plc:abc%",
        "did:plc:a b",
        "did:m:v/x",
        "did:m:v?x",
        "did:m:v#x",
        " did:m:v",
        "did:m:v\n",
        "did:m1:v",
        "did:m:ü",
    ];
    check(Did::parse, &valid, &invalid);
    assert!(Did::parse(&format!("did:m:{}", "v".repeat(2_042))).is_ok());
    assert!(Did::parse(&format!("did:m:{}", "v".repeat(2_043))).is_err());
    assert_eq!(Did::parse("did:web:x.com").unwrap().method(), "web");
}

#[test]
fn handles() {
    let valid = ["alice.test", "JAY.bsky.Social", "8.cn", "xn--ls8h.test", "a.co", "name.t--t"];
    let invalid = [
        "",
        "org",
        "john..test",
        ".test",
        "john.test.",
        "-a.test",
        "a-.test",
        "john.0",
        "jo@hn.test",
        "jo_hn.test",
        "💩.test",
        "a.test\n",
        "127.0.0.1",
    ];
    check(Handle::parse, &valid, &invalid);
    assert_eq!(Handle::parse("JAY.bsky.Social").unwrap().to_lowercase().as_str(), "jay.bsky.social");
    assert!(Handle::parse(&format!("{}test", "abcdefghi.".repeat(25))).is_err());
}

#[test]
fn collections_and_record_keys() {
    let valid = ["community.lexicon.calendar.event", "a.b.c", "cn.8.lex.stuff", "a-0.b-1.c"];
    check(
        Nsid::parse,
        &valid,
        &["com.example", "com.example.3", "com..x", "com.example.foo-bar", "com.exa💩ple.thing"],
    );
    let valid = ["3jui7kd54zh2y", "self", "~1.2-3_", "pre:fix", "...", "A"];
    check(RecordKey::parse, &valid, &["", ".", "..", "a/b", "a b", "a+b", "a#b", "dHJ1ZQ==", "é"]);
    assert!(RecordKey::parse(&"k".repeat(512)).is_ok() && RecordKey::parse(&"k".repeat(513)).is_err());
}

#[test]
fn tids() {
    let valid = ["3jzfcijpj2z2a", "7777777777777", "3zzzzzzzzzzzz", "jzzzzzzzzzzzz", "2222222222222"];
    let invalid =
        ["", "3jzfcijpj2z21", "0000000000000", "3jzfcijpj2z2aa", "3jzf-cij-pj2z-2a", "kjzfcijpj2z2a", "3JZFCIJPJ2Z2A"];
    check(Tid::parse, &valid, &invalid);
    assert_eq!(tid_of(DateTime::from_timestamp(1_738_430_999, 0).unwrap()), "3lh5234mwy222");
}

#[test]
fn cids() {
    let valid = [
        "bafyreieqq463374bbcbeq7gpmet5rvrpeqow6t4rtjzrkhnlumdylagaqa",
        "bafkreibjfgx2gprinfvicegelk5kosd6y2frmqpqzwqkg7usac74l3t2v4",
    ];
    let invalid = [
        "",
        "b",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
        "bafyreieqq463374bbcbeq7gpmet5rvrpeqow6t4rtjzrkhnlumdylagaq",
        "BAFYREIEQQ463374BBCBEQ7GPMET5RVRPEQOW6T4RTJZRKHNLUMDYLAGAQA",
        "/ipfs/bafyreieqq463374bbcbeq7gpmet5rvrpeqow6t4rtjzrkhnlumdy",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "b8888888888888888888888888888888888888888888888888888888888",
    ];
    check(Cid::parse, &valid, &invalid);
}

#[test]
fn addresses_of_records() {
    let text = "at://did:plc:abc/community.lexicon.calendar.event/3jui7kd54zh2y";
    assert_eq!(AtUri::parse(text).unwrap().to_string(), text);
    assert_eq!(AtUri::parse("at://alice.com/a.b.c/self"), Err(AtUriError::HandleAuthority));
    for text in [
        "",
        "at://",
        "at:///a.b.c/k",
        "https://did:m:v/a.b.c/k",
        "AT://did:m:v/a.b.c/k",
        "at://did:m:v",
        "at://did:m:v/a.b.c",
        "at://did:m:v/a.b.c/",
        "at://did:m:v/a.b.c/k/",
        "at://did:m:v/a.b.c/k/x",
        "at://did:m:v/a.b.c/k#x",
        "at://did:m:v/a.b.c/k?x",
        "at://did:m:v/a.b/k",
        "at://did:m:v/a.b.c/..",
        " at://did:m:v/a.b.c/k",
        "at://alice.com/a.b/k",
        "at://nobody/a.b.c/k",
    ] {
        assert_eq!(AtUri::parse(text), Err(AtUriError::Malformed), "{text}");
    }
}

#[test]
fn datetimes_of_the_protocol_are_strict() {
    for text in [
        "1985-04-12T23:20:50.123Z",
        "1985-04-12T23:20:50.12345678912345Z",
        "1985-04-12T23:20:50Z",
        "1985-04-12T23:20:50.0Z",
        "1985-04-12T23:20:50.123+00:00",
        "1985-04-12T23:20:50.123-07:00",
        "1985-04-12T23:20:50-10:00",
        "2024-02-29T00:00:00+14:00",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59Z",
    ] {
        let (instant, strict) = parse_datetime(text).unwrap();
        assert!(strict, "{text}");
        assert_eq!(instant, DateTime::parse_from_rfc3339(text).unwrap().trunc_subsecs(6), "{text}");
    }
}

#[test]
fn other_datetimes_are_read_but_not_strict() {
    for (text, meant) in [
        ("1985-04-12", "1985-04-12T00:00:00Z"),
        ("1985-04-12T23:20Z", "1985-04-12T23:20:00Z"),
        ("1985-04-12T23:20", "1985-04-12T23:20:00Z"),
        ("1985-04-12T23:20:50.123", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12t23:20:50.123z", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12 23:20:50.123Z", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12T23:20:50.123-00:00", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12T23:20:50+0230", "1985-04-12T20:50:50Z"),
        ("1985-04-12T23:20:50+02", "1985-04-12T21:20:50Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        (" 1985-04-12T23:20:50Z\n", "1985-04-12T23:20:50Z"),
    ] {
        let meant = DateTime::parse_from_rfc3339(meant).unwrap().to_utc();
        assert_eq!(parse_datetime(text), Some((meant, false)), "{text}");
    }
}

#[test]
fn what_names_no_instant_is_no_datetime() {
    let long = format!("1985-04-12T23:20:50.{}Z", "1".repeat(200));
    for text in [
        "",
        "tomorrow",
        "1985",
        "1985-04",
        "1985-4-12T23:20:50Z",
        "01985-04-12T23:20:50Z",
        "+001985-04-12T23:20:50Z",
        "-1985-04-12T23:20:50Z",
        "23:20:50Z",
        "1985-04-12T",
        "1985-04-12T23Z",
        "1985-04-12T23:20:5Z",
        "1985-04-12T23:20:50.Z",
        "1985-04-12T23:99:50Z",
        "1985-00-12T23:20:50Z",
        "1985-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "1985-04-12T24:00:00Z",
        "1985-04-12T23:20:61Z",
        "1985-04-12T23:20:50+24:00",
        "1985-04-12T23:20:50+1:00",
        "1985-04-12T23:20:50Zx",
        "1985-04-12T23:20:50 UTC",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "1985-04-12T23:20:50\u{2212}07:00",
        &long,
    ] {
        assert_eq!(parse_datetime(text), None, "{text}");
    }
}

/// Microseconds of the years 1 to 9999.
fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000).prop_map(|us| DateTime::from_timestamp_micros(us).unwrap())
}

proptest! {
    #[test]
    fn an_instant_survives_its_text(instant in instants(), minutes in -1_439_i32..1_440) {
        prop_assert_eq!(parse_datetime(&instant.to_rfc3339_opts(SecondsFormat::Micros, true)), Some((instant, true)));
        let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
        let local = instant.with_timezone(&zone);
        if (1..=9999).contains(&chrono::Datelike::year(&local)) {
            prop_assert_eq!(parse_datetime(&local.to_rfc3339()), Some((instant, true)));
        }
    }

    #[test]
    fn what_is_strict_means_the_same_to_others(text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,12})?)?(Z|z|[+-][0-2][0-9]:?[0-9]{2})?") {
        if let Some((instant, true)) = parse_datetime(&text) {
            prop_assert_eq!(DateTime::parse_from_rfc3339(&text).unwrap().to_utc().trunc_subsecs(6), instant);
        }
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,80}") {
        parse_datetime(&text);
        let _ = (Did::parse(&text), Handle::parse(&text), Nsid::parse(&text), RecordKey::parse(&text));
        let _ = (Cid::parse(&text), AtUri::parse(&text), is_tid(&text));
        let _ = (Cid::parse(&format!("b{text}")), AtUri::parse(&format!("at://{text}")));
    }

    #[test]
    fn tids_order_like_their_times(a in instants(), b in instants(), gap in 0_i64..1_000) {
        for other in [b, a + TimeDelta::microseconds(gap)] {
            let epoch = |instant: DateTime<Utc>| instant.timestamp_micros().clamp(0, (1 << 53) - 1);
            prop_assert_eq!(tid_of(a).cmp(&tid_of(other)), epoch(a).cmp(&epoch(other)));
        }
        prop_assert!(is_tid(&tid_of(a)) && Tid::parse(&tid_of(b)).is_ok());
    }
}
