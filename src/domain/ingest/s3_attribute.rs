//! Stage 3: whose message it is. Only the DID is asked of an author; handle and profile are looked up later.

use super::{
    line::Claim,
    parked::{Parked, Stage},
    s2_identify::{Identified, Subject},
};
use crate::{
    domain::source::{Kind, Source, web::Shelf},
    infra::atproto::syntax::{Did, Handle},
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

/// Whether a DID is one of the network's: `did:plc`, or a `did:web` that is a host and nothing else. A port stands only behind
/// `localhost`, as on networks of one machine.
pub fn accepts(did: &str) -> bool {
    let is_ours = |did: Did| match did.method() {
        "plc" => true,
        "web" => did.as_str().strip_prefix("did:web:").is_some_and(is_host),
        _ => false,
    };
    did.len() <= DID_BYTES && Did::parse(did).is_ok_and(is_ours)
}

fn is_host(name: &str) -> bool {
    match name.split_once("%3A").or_else(|| name.split_once("%3a")) {
        Some((host, port)) => host == "localhost" && port.parse::<u16>().is_ok(),
        // A handle is a domain name, too.
        None => name == "localhost" || Handle::parse(name).is_ok(),
    }
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

#[cfg(test)]
mod tests {
    use super::accepts;

    #[test]
    fn accounts_are_named_by_the_directory_or_by_a_host() {
        for did in ["did:plc:z72i7hdynmk6r22z27h6tvur", "did:web:example.com", "did:web:localhost%3A3000"] {
            assert!(accepts(did), "{did}");
        }
        for did in [
            "did:web:example.com:path",
            "did:web:example.com:path:of:more",
            "did:web:example.com%3A8080",
            "did:web:localhost%3A3000:path",
            "did:web:localhost%3Aport",
            "did:web:localhost:path",
            "did:web:example.com%2Fpath",
            "did:web:127.0.0.1",
            "did:web:example",
            "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
            "DID:PLC:z72i7hdynmk6r22z27h6tvur",
            "",
        ] {
            assert!(!accepts(did), "{did}");
        }
        assert!(!accepts(&format!("did:web:{}com", "abc.".repeat(100))));
    }
}
