//! Stage 3: whose message it is. Only the DID is asked of an author; handle and profile are looked up later.

use super::{
    parked::{Parked, Stage},
    s2_identify::{Identified, Subject},
};
use crate::infra::atproto::syntax::Did;

/// Bytes of a DID: a `did:web` has at most a domain name, and an index has no room for the 2,048 of the specification.
const DID_BYTES: usize = 300;

/// A message whose author is known.
#[derive(Debug)]
pub(super) struct Attributed<'a> {
    pub(super) did: Did,
    pub(super) time_us: Option<i64>,
    pub(super) subject: Subject<'a>,
}

pub(super) fn attribute(identified: Identified<'_>) -> Result<Attributed<'_>, Parked> {
    let Identified { did, time_us, subject } = identified;
    let refuse = |why: &str| Parked::at(Stage::Attribute, "DID_MALFORMED", why);
    let did = Did::parse(&did).map_err(|error| refuse(&error.to_string()))?;
    if did.as_str().len() > DID_BYTES || !matches!(did.method(), "plc" | "web") {
        return Err(refuse("only did:plc and host-level did:web take part in the network"));
    }
    Ok(Attributed { did, time_us, subject })
}
