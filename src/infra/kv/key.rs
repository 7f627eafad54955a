//! What things are kept under.

use std::{borrow::Cow, fmt::Write as _};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Longest id that is kept as it is.
const LONGEST_ID: usize = 200;

/// What a value is for. A closed set, so that two uses can never meet under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What can be computed again; see [`super::Kv::cached`].
    Cache,
    /// What is used up by one use, such as the state of a login.
    Once,
    /// Counts of a [`super::Limit`].
    Rate,
    /// Who is logged in.
    Session,
    /// What people's PDSes allow us; sealed.
    Bluesky,
    /// Who holds a lock.
    Lock,
    /// What was answered to a request that may be repeated.
    Answer,
}

impl Kind {
    /// The name; part of the key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Once => "once",
            Self::Rate => "rate",
            Self::Session => "session",
            Self::Bluesky => "bluesky:session",
            Self::Lock => "lock",
            Self::Answer => "answer",
        }
    }
}

/// A key: a kind and an id within it. Ids may come from outside, of any length and with any characters: what is long, or
/// not plainly printable, is kept under its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    kind: Kind,
    id: String,
}

impl Key {
    /// A key of this kind.
    pub fn new(kind: Kind, id: &str) -> Self {
        // What begins as a digest does is digested too, so that nobody can name another one's.
        let is_plain = id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.starts_with('#');
        let id = if is_plain { Cow::Borrowed(id) } else { Cow::Owned(digest(id)) };
        Self { kind, id: id.into_owned() }
    }

    /// As it is kept.
    pub(super) fn text(&self, namespace: &str) -> String {
        format!("{namespace}:{}:{}", self.kind.as_str(), self.id)
    }
}

fn digest(id: &str) -> String {
    let mut text = "#".to_owned();
    for byte in Sha256::digest(id.as_bytes()) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A namespace: what several installations on one server are told apart by.
pub(super) fn check_namespace(namespace: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if namespace.is_empty() || namespace.len() > 60 || !namespace.bytes().all(fits) {
        return Err(Error::invalid("kv.namespace", "CONFIG_INVALID", "expected 1 to 60 of a to z, 0 to 9 and -"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_short_plain_and_different(a in ".{0,300}", b in ".{0,300}") {
            let text = |id: &str| Key::new(Kind::Once, id).text("openmeet");
            prop_assert!(text(&a).len() < 256 && text(&a).bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(a == b, text(&a) == text(&b));
        }
    }

    #[test]
    fn an_id_cannot_pass_for_the_digest_of_another() {
        let digested = Key::new(Kind::Session, &"x".repeat(300));
        let forged = Key::new(Kind::Session, &digested.id);
        assert_ne!(digested, forged);
        assert_eq!(Key::new(Kind::Session, "did:plc:a").text("one"), "one:session:did:plc:a");
    }
}
