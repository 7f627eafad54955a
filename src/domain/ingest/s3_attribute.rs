//! Stage 3: whose message it is. Only the DID is asked of an author; handle and profile are looked up later.

use super::{
    line::Claim,
    parked::{Parked, Stage},
    s2_identify::{Identified, Subject},
};
use crate::{
    domain::source::{Kind, Source, web::Shelf},
    infra::atproto::syntax::Did,
};

/// Bytes of a DID: a `did:web` has at most a domain name, and an index has no room for the 2,048 of the specification.
const DID_BYTES: usize = 300;

/// A message whose author is known.
#[derive(Debug)]
pub(super) struct Attributed<'a> {
    pub(super) time_us: Option<i64>,
    pub(super) author: Author<'a>,
}

/// Who speaks, and of what.
#[derive(Debug)]
pub(super) enum Author<'a> {
    Account(Did, Subject<'a>),
    /// An event of no account: its source speaks for it.
    Source(Shelf, Claim<'a>),
}

/// Whether a DID is one of the network's.
pub fn accepts(did: &str) -> bool {
    did.len() <= DID_BYTES && Did::parse(did).is_ok_and(|did| matches!(did.method(), "plc" | "web"))
}

pub(super) fn attribute(identified: Identified<'_>) -> Result<Attributed<'_>, Parked> {
    let Identified { did, time_us, subject } = identified;
    if let Subject::Claim(Source::Web(shelf @ Shelf { kind: Kind::Event, .. }), claim) = subject {
        return Ok(Attributed { time_us, author: Author::Source(shelf, claim) });
    }
    let refused = || {
        let why = "a repository is named by a did:plc or a host-level did:web";
        Parked::at(Stage::Attribute, "DID_MALFORMED", why)
    };
    let did = Did::parse(&did).ok().filter(|did| accepts(did.as_str())).ok_or_else(refused)?;
    Ok(Attributed { time_us, author: Author::Account(did, subject) })
}
