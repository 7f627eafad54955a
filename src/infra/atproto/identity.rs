//! Who a DID is: its handle, checked in both directions, and its PDS.
//!
//! Invariant: a handle is `Verified` only if the DID's document claims it and the handle's own domain names the DID. What
//! could not be asked is `Unknown`, never `Invalid`: a hiccup of somebody's DNS takes nobody's handle away.
//!
//! The document is read with a parser of our own: others reject documents for the shape of fields that nobody needs here,
//! and do not compare the document's id with the DID that was asked for. Nothing is cached; callers keep what they learn.

mod document;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use anyhow::anyhow;
use url::Url;

use self::document::Document;
use super::{
    syntax::{self, Did},
    vouched::SigningKey,
};
use crate::{
    error::{Error, Result},
    infra::http::{Answer, Outbound, has_no_address},
};

/// Longest handle whose `_atproto.` name is still a name.
const MAX_HANDLE_BYTES: usize = 244;
/// Top-level names under which no handle may stand.
const DISALLOWED: [&str; 8] = ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"];

/// Where identities are found.
#[derive(Clone, Debug)]
pub struct DirectorySettings {
    /// The PLC directory, such as `https://plc.directory`; a path is kept.
    pub plc_url: Url,
}

/// What is known of a DID's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    /// Claimed by the document and confirmed by the domain; lower case.
    Verified(String),
    /// The domain names somebody else or nobody, or the handle may not be used: shown as `handle.invalid`.
    Invalid {
        /// What the document claims, lower case; `None` when it claims no handle.
        claimed: Option<String>,
    },
    /// The domain could not be asked now: what was known before stays.
    Unknown,
}

/// A DID's identity, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The DID that was asked for.
    pub did: String,
    /// Its handle.
    pub handle: Handle,
    /// Origin of its PDS, such as `https://bsky.social/`; `None` when it names none that may be reached.
    pub pds: Option<Url>,
    /// Key of its repository; `None` when the document names none of a known kind.
    pub signing_key: Option<SigningKey>,
}

/// The identities of the network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    outbound: Outbound,
    settings: DirectorySettings,
}

impl Directory {
    /// A directory that asks through `outbound`, whose rules also decide whether private networks are allowed.
    pub fn new(outbound: Outbound, settings: DirectorySettings) -> Self {
        Self { outbound, settings }
    }

    /// How long the PLC directory is left alone, because it has failed or asks for it; `None` while it may be asked.
    pub fn rest(&self) -> Option<Duration> {
        self.outbound.rest(&self.settings.plc_url)
    }

    /// Reads a DID's document and checks its handle.
    ///
    /// `None` when the DID does not exist, is a tombstone, or is of a method that the network does not use. `Upstream`
    /// (service `plc` or `did_web`) when the document could not be read or speaks of somebody else; `RateLimited`;
    /// `Invalid` with the code `URL_REFUSED` when a `did:web` names a host that may not be asked.
    pub async fn resolve(&self, did: &Did) -> Result<Option<Resolved>> {
        let Some((service, url)) = self.locate(did) else { return Ok(None) };
        let answer = match self.outbound.get(service, &url).await {
            Ok(answer) => answer,
            Err(error) if has_no_address(&error) && service == "did_web" => return Ok(None),
            Err(error) => return Err(error),
        };
        if matches!(answer.status, 404 | 410) {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(Error::upstream(service, anyhow!("status {} for the document of {did}", answer.status)));
        }
        let document = Document::parse(&answer.body).map_err(|error| Error::upstream(service, error))?;
        if document.id() != Some(did.as_str()) {
            return Err(Error::upstream(service, anyhow!("the document of {did} is somebody else's")));
        }
        let handle = match document.handle() {
            Some(claimed) => self.verify(&claimed, did).await,
            None => Handle::Invalid { claimed: None },
        };
        let pds = document.pds().filter(|url| self.outbound.admits(url));
        Ok(Some(Resolved { did: did.to_string(), handle, pds, signing_key: document.signing_key() }))
    }

    /// Where a DID's document is: kind of host and URL. `None` for DIDs that cannot exist.
    fn locate(&self, did: &Did) -> Option<(&'static str, Url)> {
        let (method, name) = did.as_str().strip_prefix("did:")?.split_once(':')?;
        match method {
            "plc" => {
                let is_base32 = |b: u8| matches!(b, b'a'..=b'z' | b'2'..=b'7');
                if name.len() != 24 || !name.bytes().all(is_base32) {
                    return None;
                }
                let mut url = self.settings.plc_url.clone();
                url.path_segments_mut().ok()?.pop_if_empty().push(did.as_str());
                Some(("plc", url))
            }
            "web" => Some(("did_web", self.locate_web(name)?)),
            _ => None,
        }
    }

    /// Hosts only: no paths; a port, and then plain http, only on local networks.
    fn locate_web(&self, name: &str) -> Option<Url> {
        let local = self.outbound.allows_private();
        let (host, port) = match name.split_once("%3A").or_else(|| name.split_once("%3a")) {
            Some((host, port)) if local => (host, Some(port.parse::<u16>().ok()?)),
            Some(_) => return None,
            None => (name, None),
        };
        if host != "localhost" && syntax::Handle::parse(host).is_err() {
            return None;
        }
        let mut url = Url::parse("https://host/.well-known/did.json").ok()?;
        url.set_host(Some(host)).ok()?;
        if local && (port.is_some() || host == "localhost") {
            url.set_scheme("http").ok()?;
        }
        url.set_port(port).ok()?;
        Some(url)
    }

    /// Asks the handle's domain, DNS first, whether it names the DID.
    async fn verify(&self, claimed: &syntax::Handle, did: &Did) -> Handle {
        let handle = claimed.to_lowercase().into_string();
        let top = handle.rsplit('.').next().unwrap_or_default();
        let local = self.outbound.allows_private();
        if DISALLOWED.contains(&top) || (top == "test" && !local) || handle.len() > MAX_HANDLE_BYTES {
            return Handle::Invalid { claimed: Some(handle) };
        }
        let by_dns = self.ask_dns(&handle, did).await;
        let by_web = match by_dns {
            Said::Yes => return Handle::Verified(handle),
            Said::SomebodyElse => return Handle::Invalid { claimed: Some(handle) },
            Said::Nobody | Said::Nothing => self.ask_web(&handle, did).await,
        };
        match (by_dns, by_web) {
            (_, Said::Yes) => Handle::Verified(handle),
            (Said::Nobody, Said::SomebodyElse | Said::Nobody) => Handle::Invalid { claimed: Some(handle) },
            // On a local network handles have DNS records and seldom a web server of their own.
            (Said::Nobody, _) if local => Handle::Invalid { claimed: Some(handle) },
            // DNS is preferred and was silent, so a denial by the web is not the last word.
            _ => Handle::Unknown,
        }
    }

    async fn ask_dns(&self, handle: &str, did: &Did) -> Said {
        let Ok(texts) =
            self.outbound.txt(&format!("_atproto.{handle}")).await.inspect_err(|error| unanswered(handle, error))
        else {
            return Said::Nothing;
        };
        let named: BTreeSet<&str> = texts.iter().filter_map(|text| text.trim().strip_prefix("did=")).collect();
        match named.len() {
            0 => Said::Nobody,
            1 if named.contains(did.as_str()) => Said::Yes,
            _ => Said::SomebodyElse,
        }
    }

    async fn ask_web(&self, handle: &str, did: &Did) -> Said {
        let Ok(url) = Url::parse(&format!("https://{handle}/.well-known/atproto-did")) else { return Said::Nobody };
        match self.outbound.get("handle", &url).await {
            Ok(answer) if answer.is_success() => named_by(&answer, did),
            Ok(answer) if answer.status < 500 => Said::Nobody,
            Ok(_) => Said::Nothing,
            // The domain is gone, or points where nobody may look: that is an answer.
            Err(error) if has_no_address(&error) || matches!(error, Error::Invalid { .. }) => Said::Nobody,
            Err(error) => {
                unanswered(handle, &error);
                Said::Nothing
            }
        }
    }
}

/// What one way of asking said.
#[derive(Clone, Copy)]
enum Said {
    /// The domain names this DID.
    Yes,
    /// The domain names another DID, or several.
    SomebodyElse,
    /// The domain names no DID.
    Nobody,
    /// There was no answer.
    Nothing,
}

fn named_by(answer: &Answer, did: &Did) -> Said {
    match std::str::from_utf8(&answer.body).map(|text| text.trim().parse::<Did>()) {
        Ok(Ok(named)) if named == *did => Said::Yes,
        Ok(Ok(_)) => Said::SomebodyElse,
        _ => Said::Nobody,
    }
}

fn unanswered(handle: &str, error: &Error) {
    tracing::debug!(handle, error = error.chain(), "a handle could not be checked");
}
