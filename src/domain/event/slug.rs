//! Slugs of events: readable and unique in the tenant. Made of the name that the record had when it first came; a row
//! keeps its slug when the name changes.

use data_encoding::BASE32_NOPAD_NOCASE;
use sha2::{Digest, Sha256};

/// Characters of the readable part.
const READABLE: usize = 60;
/// Characters of the hash: 50 bits tell events of the same name apart.
const SHORT: usize = 10;
/// Characters of the hash when somebody has gone to the length of finding a record whose short slug is taken.
const LONG: usize = 32;

/// Candidates for the slug of a record, best first: the name, folded to ASCII, with a short and with a long hash of the
/// URI behind it. Two records never share the last one.
pub(super) fn candidates(name: &str, uri: &str) -> [String; 2] {
    let mut readable = slug::slugify(name);
    readable.truncate(READABLE);
    let readable = readable.trim_end_matches('-');
    let readable = if readable.is_empty() { "event" } else { readable };
    let hash = BASE32_NOPAD_NOCASE.encode(&Sha256::digest(uri)).to_ascii_lowercase();
    [SHORT, LONG].map(|length| format!("{readable}-{}", hash.chars().take(length).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::candidates;

    #[test]
    fn a_name_stays_readable() {
        let [short, _] = candidates("Sömmerfest & Grillen – Übung!", "at://did:plc:a/b/c");
        assert!(short.starts_with("sommerfest-grillen-ubung-"), "{short}");
    }

    proptest! {
        #[test]
        fn a_slug_is_fit_for_an_address(name in ".*", uri in "[ -~]{0,80}") {
            for slug in candidates(&name, &uri) {
                prop_assert!(slug.len() <= 93);
                prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert!(!slug.starts_with('-') && !slug.contains("--"));
            }
        }

        #[test]
        fn other_records_get_other_slugs(name in ".{0,20}", one in "[a-z]{1,20}", other in "[a-z]{1,20}") {
            prop_assume!(one != other);
            prop_assert_ne!(candidates(&name, &one), candidates(&name, &other));
        }
    }
}
