//! Foreign profiles, read with bounds: what is too long is cut, and what may not be shown is left out. Pure.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Profile, Source};
use crate::{
    domain::source::lenient::{clean, web_address},
    infra::atproto::{
        appview::{Label, Seen},
        syntax::Handle,
    },
};

/// Characters of a name; the lexicon allows 64 that people count.
const NAME: usize = 640;
/// Characters of a biography; the lexicon allows 256 that people count.
const DESCRIPTION: usize = 2_560;
/// Labels of moderators that withhold an account.
const WITHHELD: [&str; 2] = ["!hide", "!takedown"];
/// The label by which people keep a profile from those who are not logged in.
const RESERVED: &str = "!no-unauthenticated";

/// What the AppView says; `None` when moderators hide the account.
pub(super) fn of_appview(seen: Seen) -> Option<Profile> {
    let did = seen.did.into_string();
    // Nobody hides others, or protects them, by labelling oneself, and the other way round.
    let is_own = |label: &&Label| label.source == did;
    if seen.labels.iter().any(|label| !is_own(&label) && WITHHELD.contains(&label.value.as_str())) {
        return None;
    }
    let is_reserved = seen.labels.iter().filter(is_own).any(|label| label.value == RESERVED);
    let count = |count: Option<u64>| count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    Some(Profile {
        handle: seen.handle.map(Handle::into_string),
        display_name: name(seen.display_name.as_deref()),
        description: text(seen.description.as_deref(), DESCRIPTION),
        avatar_url: picture(seen.avatar.as_deref()),
        banner_url: picture(seen.banner.as_deref()),
        followers: count(seen.followers),
        follows: count(seen.follows),
        posts: count(seen.posts),
        source: Source::AppView,
        is_reserved,
        did,
    })
}

/// The identity alone.
pub(super) fn of_identity(did: &str, handle: Option<String>) -> Profile {
    Profile {
        did: did.to_owned(),
        handle,
        display_name: None,
        description: None,
        avatar_url: None,
        banner_url: None,
        followers: None,
        follows: None,
        posts: None,
        source: Source::Identity,
        is_reserved: false,
    }
}

/// What the record at the PDS says. One that is no profile at all says nothing, and protects.
pub(super) fn of_record(did: &str, handle: Option<String>, record: &RawValue) -> Profile {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        display_name: Option<Value>,
        description: Option<Value>,
        labels: Option<Value>,
    }
    let blank = of_identity(did, handle);
    let Ok(record) = serde_json::from_str::<Record>(record.get()) else {
        return Profile { source: Source::Pds, is_reserved: true, ..blank };
    };
    let own = record.labels.as_ref().and_then(|labels| labels.get("values")).and_then(Value::as_array);
    let is_reserved = own.into_iter().flatten().any(|label| label.get("val").and_then(Value::as_str) == Some(RESERVED));
    Profile {
        display_name: name(record.display_name.as_ref().and_then(Value::as_str)),
        description: text(record.description.as_ref().and_then(Value::as_str), DESCRIPTION),
        source: Source::Pds,
        is_reserved,
        ..blank
    }
}

fn name(raw: Option<&str>) -> Option<String> {
    let one_line = raw?.split_whitespace().collect::<Vec<_>>().join(" ");
    text(Some(&one_line), NAME)
}

fn text(raw: Option<&str>, limit: usize) -> Option<String> {
    let cleaned = clean(raw?);
    let cut: String = cleaned.chars().take(limit).collect();
    let cut = cut.trim_end();
    (!cut.is_empty()).then(|| cut.to_owned())
}

/// Only https: whoever reads over http tells everybody on the way whom they look at.
fn picture(address: Option<&str>) -> Option<String> {
    web_address(address?).filter(|address| address.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::infra::atproto::syntax::Did;

    const ALICE: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

    fn seen(labels: &[(&str, &str)]) -> Seen {
        let label = |(source, value): &(&str, &str)| Label { source: (*source).into(), value: (*value).into() };
        Seen {
            did: Did::parse(ALICE).unwrap(),
            handle: None,
            display_name: Some(format!(" A\u{0}lice\n\n Smith {}", "x".repeat(10_000))),
            description: Some("\u{7}".into()),
            avatar: Some("https://cdn.example.com/a?b".into()),
            banner: Some("http://cdn.example.com/a".into()),
            followers: Some(u64::MAX),
            follows: Some(0),
            posts: None,
            labels: labels.iter().map(label).collect(),
        }
    }

    #[test]
    fn foreign_texts_are_bounded_and_addresses_are_https() {
        let profile = of_appview(seen(&[])).unwrap();
        let name = profile.display_name.unwrap();
        assert!(name.starts_with("Alice Smith xxx") && name.chars().count() == NAME, "{name}");
        assert_eq!((profile.description, profile.avatar_url.is_some(), profile.banner_url), (None, true, None));
        assert_eq!((profile.followers, profile.follows, profile.posts), (Some(u32::MAX), Some(0), None));
        for address in ["javascript:alert(1)", "//cdn.example.com", "data:image/png;base64,", ""] {
            assert_eq!(picture(Some(address)), None, "{address}");
        }
        assert_eq!(picture(Some(&format!("https://a.example.com/{}", "a".repeat(3_000)))), None);
    }

    #[test]
    fn labels_count_by_who_sets_them() {
        let moderator = "did:plc:moderator";
        for (labels, is_shown, is_reserved) in [
            (&[][..], true, false),
            (&[(moderator, "!hide")], false, false),
            (&[(moderator, "spam"), (moderator, "!takedown")], false, false),
            (&[(ALICE, "!hide"), (moderator, "!warn")], true, false),
            (&[(ALICE, "!no-unauthenticated")], true, true),
            (&[(moderator, "!no-unauthenticated")], true, false),
        ] {
            let profile = of_appview(seen(labels));
            assert_eq!(profile.is_some(), is_shown, "{labels:?}");
            assert_eq!(profile.is_some_and(|profile| profile.is_reserved), is_reserved, "{labels:?}");
        }
    }

    #[test]
    fn a_record_is_read_whatever_its_form() {
        let read = |record: Value| of_record(ALICE, None, &serde_json::value::to_raw_value(&record).unwrap());
        let full = read(json!({ "displayName": "Alice", "description": 7, "avatar": { "$type": "blob" }, "labels": {
            "$type": "com.atproto.label.defs#selfLabels", "values": [7, { "val": "!no-unauthenticated" }] } }));
        assert_eq!((full.display_name.as_deref(), full.description, full.is_reserved), (Some("Alice"), None, true));
        assert_eq!((full.source, full.avatar_url, full.followers), (Source::Pds, None, None));
        assert!(!read(json!({ "labels": 7 })).is_reserved);
        assert!(read(json!([1])).is_reserved, "who knows what it says");
    }
}
