//! Global identifiers: which noun and which row, in one opaque text that is fit for addresses.
//!
//! A shadow account and the member it may become share one kind, because claiming keeps the row and so the identifier.

use async_graphql::ID;
use data_encoding::BASE64URL_NOPAD;

use crate::error::{Error, Result};

/// What an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event.
    Event,
    /// An answer.
    Rsvp,
    /// A member or a shadow account.
    Account,
    /// A message that could not be applied.
    Failure,
    /// A service key.
    Key,
    /// A session of a person.
    Session,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Event, Self::Rsvp, Self::Account, Self::Failure, Self::Key, Self::Session];

    fn tag(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Rsvp => "rsvp",
            Self::Account => "account",
            Self::Failure => "failure",
            Self::Key => "key",
            Self::Session => "session",
        }
    }
}

/// The identifier of a row.
pub(crate) fn encode(kind: Kind, key: i64) -> ID {
    ID(BASE64URL_NOPAD.encode(format!("{}:{key}", kind.tag()).as_bytes()))
}

/// What an identifier names. `field` is the argument that held it.
///
/// Errors: [`Error::Invalid`] with `ID_MALFORMED` for anything that was never handed out.
pub(crate) fn decode(id: &ID, field: &'static str) -> Result<(Kind, i64)> {
    let read = || {
        let bytes = BASE64URL_NOPAD.decode(id.as_bytes()).ok()?;
        let (tag, key) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.tag() == tag)?;
        let key = key.parse().ok()?;
        // One row has one identifier: no leading zeros, no plus sign.
        (encode(kind, key) == *id).then_some((kind, key))
    };
    read().ok_or_else(|| Error::invalid(field, "ID_MALFORMED", "this is no identifier of an object"))
}

/// The row that an identifier of one kind names.
///
/// Errors: as [`decode`], and `ID_OF_ANOTHER_TYPE`.
pub(crate) fn decode_as(kind: Kind, id: &ID, field: &'static str) -> Result<i64> {
    match decode(id, field)? {
        (found, key) if found == kind => Ok(key),
        (found, _) => {
            let why = format!("this is the identifier of an {}, not of an {}", found.tag(), kind.tag());
            Err(Error::invalid(field, "ID_OF_ANOTHER_TYPE", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_identifier_comes_back(key: i64, which in 0_usize..6) {
            let kind = Kind::ALL[which];
            let id = encode(kind, key);
            prop_assert_eq!(decode(&id, "id").unwrap(), (kind, key));
            prop_assert_eq!(decode_as(kind, &id, "id").unwrap(), key);
            for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
                prop_assert!(decode_as(other, &id, "id").is_err());
            }
        }

        #[test]
        fn what_was_not_handed_out_is_refused(text in ".*") {
            let id = ID(text);
            if let Ok((kind, key)) = decode(&id, "id") {
                prop_assert_eq!(encode(kind, key), id);
            }
        }
    }

    #[test]
    fn one_row_has_one_identifier() {
        for text in ["event:01", "event:+1", "event: 1", "event:1:1", "event", "thing:1", "event:99999999999999999999"]
        {
            assert!(decode(&ID(BASE64URL_NOPAD.encode(text.as_bytes())), "id").is_err(), "{text}");
        }
    }
}
