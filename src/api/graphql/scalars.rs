//! Custom scalars. What comes in is checked by the scalar, so that resolvers never see malformed text.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{Datelike, SecondsFormat, SubsecRound, Utc};

use super::guard::Accepts;
use crate::infra::atproto::syntax;

/// What each custom scalar accepts, so that values are refused before anything runs.
pub(crate) const ACCEPTS: &[(&str, Accepts)] = &[
    ("AtUri", <AtUri as ScalarType>::is_valid),
    ("Cid", <Cid as ScalarType>::is_valid),
    ("DateTime", <DateTime as ScalarType>::is_valid),
    ("Did", <Did as ScalarType>::is_valid),
    ("Handle", <Handle as ScalarType>::is_valid),
    ("JSON", <Json as ScalarType>::is_valid),
    ("Nsid", <Nsid as ScalarType>::is_valid),
    ("RecordKey", <RecordKey as ScalarType>::is_valid),
    ("StreamCursor", <StreamCursor as ScalarType>::is_valid),
    ("TimeZone", <TimeZone as ScalarType>::is_valid),
    ("URL", <Url as ScalarType>::is_valid),
];

/// An instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateTime(pub(crate) chrono::DateTime<Utc>);

impl From<chrono::DateTime<Utc>> for DateTime {
    fn from(instant: chrono::DateTime<Utc>) -> Self {
        Self(instant)
    }
}

/// RFC 3339 instant, always rendered in UTC with a `Z` suffix; kept to the microsecond.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/chillicream/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        read_instant(&value).map(Self).ok_or_else(|| refused("an RFC 3339 instant of the years 0 to 9999"))
    }

    fn is_valid(value: &Value) -> bool {
        read_instant(value).is_some()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

fn read_instant(value: &Value) -> Option<chrono::DateTime<Utc>> {
    let Value::String(text) = value else { return None };
    let instant = chrono::DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc).trunc_subsecs(6);
    // Beyond these years the databases disagree on what comes first.
    (0..=9999).contains(&instant.year()).then_some(instant)
}

/// Arbitrary JSON; used only for foreign records whose shape is not ours.
#[derive(Clone, Debug)]
pub(crate) struct Json(pub(crate) Value);

/// Arbitrary JSON; used only for foreign records whose shape is not ours.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A text with a grammar: its name, its specification, and how what comes in is read.
macro_rules! text_scalar {
    (#[doc = $doc:tt] $name:ident, $graphql:tt, $url:tt, $expected:tt, $read:expr) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) String);

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        #[doc = $doc]
        #[Scalar(name = $graphql, specified_by_url = $url)]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                let read: fn(&str) -> Option<String> = $read;
                match &value {
                    Value::String(text) => read(text).map(Self).ok_or_else(|| refused($expected)),
                    _ => Err(refused($expected)),
                }
            }

            fn is_valid(value: &Value) -> bool {
                <Self as ScalarType>::parse(value.clone()).is_ok()
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.clone())
            }
        }
    };
}

text_scalar!(
    /// Absolute URL as in the WHATWG URL standard; http and https only.
    Url, "URL", "https://url.spec.whatwg.org/", "an absolute http or https URL",
    |text| url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).map(Into::into)
);
text_scalar!(
    /// Decentralised identifier, `did:plc:` or `did:web:`.
    Did, "Did", "https://atproto.com/specs/did", "a DID",
    |text| syntax::Did::parse(text).ok().map(syntax::Did::into_string)
);
text_scalar!(
    /// ATProtocol handle, lower case and without a leading `@`.
    Handle, "Handle", "https://atproto.com/specs/handle", "a handle without a leading @",
    |text| syntax::Handle::parse(text).ok().map(|handle| handle.to_lowercase().into_string())
);
text_scalar!(
    /// `at://` URI of a record, with the DID of its repository.
    AtUri, "AtUri", "https://atproto.com/specs/at-uri-scheme", "the at:// URI of a record, with a DID",
    |text| syntax::AtUri::parse(text).ok().map(|uri| uri.to_string())
);
text_scalar!(
    /// Content identifier of a record version, CIDv1 in base32.
    Cid, "Cid", "https://atproto.com/specs/data-model#link-and-cid-formats", "a CID",
    |text| syntax::Cid::parse(text).ok().map(syntax::Cid::into_string)
);
text_scalar!(
    /// Namespaced identifier of a lexicon or collection.
    Nsid, "Nsid", "https://atproto.com/specs/nsid", "an NSID",
    |text| syntax::Nsid::parse(text).ok().map(syntax::Nsid::into_string)
);
text_scalar!(
    /// Record key inside a collection.
    RecordKey, "RecordKey", "https://atproto.com/specs/record-key", "a record key",
    |text| syntax::RecordKey::parse(text).ok().map(syntax::RecordKey::into_string)
);
text_scalar!(
    /// IANA time-zone name such as `Europe/Lisbon`.
    TimeZone, "TimeZone", "https://www.iana.org/time-zones", "an IANA time-zone name",
    |text| text.parse::<chrono_tz::Tz>().ok().map(|zone| zone.name().to_owned())
);

/// A position in a change stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamCursor(pub(crate) String);

/// Opaque, URL-safe position in a change stream. Ordered, stable across restarts.
#[Scalar(name = "StreamCursor")]
impl ScalarType for StreamCursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            _ => Err(refused("a cursor that this stream handed out")),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// The value itself is not repeated: it may be long, or not for logs.
fn refused<T: async_graphql::InputType>(expected: &str) -> InputValueError<T> {
    InputValueError::custom(format!("expected {expected}")).with_extension("code", "BAD_USER_INPUT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn instants_are_read_in_any_zone_and_shown_in_utc() {
        for (given, shown) in [
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.1234567+02:00", Some("2026-01-02T01:04:05.123456Z")),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-01-02", None),
            ("2026-01-02T03:04:05", None),
        ] {
            let read = <DateTime as ScalarType>::parse(text(given)).ok().map(|instant| ScalarType::to_value(&instant));
            assert_eq!(read, shown.map(text), "{given}");
        }
    }

    #[test]
    fn texts_follow_their_grammars() {
        assert_eq!(<Handle as ScalarType>::parse(text("Alice.Example.COM")).unwrap().0, "alice.example.com");
        assert!(<Handle as ScalarType>::parse(text("alice")).is_err());
        assert!(<Did as ScalarType>::parse(text("did:plc:ewvi7nxzyoun6zhxrhs64oiz")).is_ok());
        assert!(<Did as ScalarType>::parse(text("alice.example.com")).is_err());
        assert!(<Url as ScalarType>::parse(text("javascript:alert(1)")).is_err());
        assert!(<TimeZone as ScalarType>::parse(text("Europe/Lisbon")).is_ok());
        assert!(<TimeZone as ScalarType>::parse(text("Mars/Base")).is_err());
        assert!(<AtUri as ScalarType>::parse(text("at://alice.example.com/a.b.c/d")).is_err());
    }
}
