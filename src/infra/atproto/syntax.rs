//! Identifiers of the AT Protocol, validated once and then carried as types.
//!
//! DIDs, handles, NSIDs, TIDs and record keys are judged by atrium's grammars, wrapped so that nobody above depends on
//! atrium. CIDs, AT-URIs, datetimes and the making of TIDs are our own: atrium takes any CID, has no AT-URI, refuses valid
//! datetimes (offsets -10:00 and -20:00) and wraps times before 1970.

mod datetime;

use std::{fmt, str::FromStr};

use atrium_api::types::string as atrium;
use chrono::{DateTime, Utc};

pub use self::datetime::{is_storable, parse_datetime};
use crate::error::Error;

/// Text that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid {what}")]
pub struct Malformed {
    /// `DID`, `handle`, `NSID`, `record key`, `CID`, `TID`.
    pub what: &'static str,
    code: &'static str,
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Self::invalid(error.what, error.code, error.to_string())
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $code:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the grammar; nothing is looked up.
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                if $is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Malformed { what: $what, code: $code })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, owned.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier!(
    /// An account: `did:plc:…`, `did:web:…` or another method. Case-sensitive, at most 2,048 bytes.
    Did, "DID", "DID_MALFORMED", |text: &str| text.parse::<atrium::Did>().is_ok()
);
identifier!(
    /// A domain name that stands for an account. In the case it was written; [`Handle::to_lowercase`] is the normal form.
    Handle, "handle", "HANDLE_MALFORMED", |text: &str| text.parse::<atrium::Handle>().is_ok()
);
identifier!(
    /// The name of a collection, such as `community.lexicon.calendar.event`.
    Nsid, "NSID", "NSID_MALFORMED", |text: &str| text.parse::<atrium::Nsid>().is_ok()
);
identifier!(
    /// The name of a record within its collection; any of the grammar's, not only TIDs.
    RecordKey, "record key", "RECORD_KEY_MALFORMED", |text: &str| text.parse::<atrium::RecordKey>().is_ok()
);
identifier!(
    /// A timestamp identifier. Its text orders like its time; its time is a claim.
    Tid, "TID", "TID_MALFORMED", is_tid
);
identifier!(
    /// The hash of a record or a blob: version 1, base 32, SHA-256, DAG-CBOR or raw.
    Cid, "CID", "CID_MALFORMED", is_cid
);

impl Did {
    /// The method: `plc` of `did:plc:…`.
    pub fn method(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

impl Handle {
    /// The normal form.
    #[must_use]
    pub fn to_lowercase(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }
}

/// The address of one record: `at://did/collection/rkey`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtUri {
    /// Whose repo.
    pub did: Did,
    /// Which collection.
    pub collection: Nsid,
    /// Which record.
    pub rkey: RecordKey,
}

/// Why an AT-URI cannot name a record for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtUriError {
    /// The authority is a handle: well-formed, but it may be somebody else's tomorrow.
    #[error("names a handle instead of a DID")]
    HandleAuthority,
    /// It is no AT-URI, or none of a record.
    #[error("is not the AT-URI of a record")]
    Malformed,
}

impl From<AtUriError> for Error {
    fn from(error: AtUriError) -> Self {
        let code = match error {
            AtUriError::HandleAuthority => "AT_URI_HANDLE_AUTHORITY",
            AtUriError::Malformed => "AT_URI_MALFORMED",
        };
        Self::invalid("uri", code, error.to_string())
    }
}

impl AtUri {
    /// Reads the AT-URI of a record: authority, collection and record key, nothing behind.
    pub fn parse(text: &str) -> Result<Self, AtUriError> {
        const MAX_BYTES: usize = 8 * 1024;
        let rest = text.strip_prefix("at://").filter(|_| text.len() <= MAX_BYTES).ok_or(AtUriError::Malformed)?;
        let mut parts = rest.split('/');
        let (Some(authority), Some(collection), Some(rkey), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AtUriError::Malformed);
        };
        let collection = Nsid::parse(collection).map_err(|_| AtUriError::Malformed)?;
        let rkey = RecordKey::parse(rkey).map_err(|_| AtUriError::Malformed)?;
        match Did::parse(authority) {
            Ok(did) => Ok(Self { did, collection, rkey }),
            Err(_) if Handle::parse(authority).is_ok() => Err(AtUriError::HandleAuthority),
            Err(_) => Err(AtUriError::Malformed),
        }
    }
}

impl FromStr for AtUri {
    type Err = AtUriError;

    fn from_str(text: &str) -> Result<Self, AtUriError> {
        Self::parse(text)
    }
}

impl fmt::Display for AtUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at://{}/{}/{}", self.did, self.collection, self.rkey)
    }
}

/// Whether a text is a TID.
pub fn is_tid(text: &str) -> bool {
    let is_sortable = |b: u8| matches!(b, b'2'..=b'7' | b'a'..=b'z');
    text.len() == 13 && text.bytes().all(is_sortable) && text.bytes().next().is_some_and(|b| b <= b'j')
}

/// The TID of an instant, with clock id 0. Orders like the instants, to the microsecond; instants before 1970 become the
/// least TID and those past the range (year 2255) the greatest.
pub fn tid_of(instant: DateTime<Utc>) -> String {
    const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
    const MAX_MICROSECONDS: u64 = (1 << 53) - 1;
    let bits = u64::try_from(instant.timestamp_micros()).unwrap_or(0).min(MAX_MICROSECONDS) << 10;
    let digit = |place: u32| ALPHABET.get(((bits >> (5 * place)) & 31) as usize).map_or('2', |byte| char::from(*byte));
    (0..13).rev().map(digit).collect()
}

/// The next TID after this one; the greatest one, and what is none, stay as they are.
pub fn tid_after(tid: &str) -> String {
    if !is_tid(tid) {
        return tid.to_owned();
    }
    let mut bytes = tid.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        *byte = match *byte {
            b'z' => b'2',
            b'7' => b'a',
            other => other + 1,
        };
        // Nothing is carried over any more.
        if *byte != b'2' {
            break;
        }
    }
    String::from_utf8(bytes).ok().filter(|next| is_tid(next) && next.as_str() > tid).unwrap_or_else(|| tid.to_owned())
}

/// Whether a text is the CID of a record or a blob, as [`Cid`] has it.
pub fn is_cid(text: &str) -> bool {
    const DAG_CBOR: u64 = 0x71;
    const RAW: u64 = 0x55;
    const SHA_256: u64 = 0x12;
    // The length is that of every CID with these parts, which keeps paths and other spellings out.
    if text.len() != 59 || !text.starts_with('b') || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    ipld_core::cid::Cid::from_str(text).is_ok_and(|cid| {
        cid.version() == ipld_core::cid::Version::V1
            && matches!(cid.codec(), DAG_CBOR | RAW)
            && cid.hash().code() == SHA_256
            && cid.hash().size() == 32
    })
}

#[cfg(test)]
mod tests;
