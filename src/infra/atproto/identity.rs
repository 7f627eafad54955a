//! Who a DID is: its handle, checked in both directions, and its PDS.
//!
//! Invariant: a handle is `Verified` only if the DID's document claims it and the handle's own domain names the DID. What
//! could not be asked is `Unknown`, never `Invalid`: a hiccup of somebody's DNS takes nobody's handle away.
//!
//! The document is read with a parser of our own: others reject documents for the shape of fields that nobody needs here,
//! and do not compare the document's id with the DID that was asked for. Nothing is cached: every answer is as of now, and
//! callers keep what they learn for as long as they may.
//!
//! A mirror of the PLC directory is asked only while the directory does not answer. It may be behind, so it confirms that
//! somebody is there, and never that nobody is.

mod document;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use anyhow::anyhow;
use tracing::debug;
use url::Url;

use self::document::Document;
use super::{
    syntax::{self, Did},
    vouched::SigningKey,
};
use crate::{
    error::{Error, Result},
    infra::http::{Answer, Outbound, Request, has_no_address, is_too_large},
};

/// Far more than any document that somebody lives by; longer ones of strangers are not read.
const MAX_DOCUMENT_BYTES: usize = 512 * 1024;
/// Longest handle whose `_atproto.` name is still a name.
const MAX_HANDLE_BYTES: usize = 244;
/// Top-level names under which no handle may stand.
const DISALLOWED: [&str; 8] = ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"];

/// Where identities are found.
#[derive(Clone, Debug)]
pub struct DirectorySettings {
    /// The PLC directory, such as `https://plc.directory`; a path is kept.
    pub plc_url: Url,
    /// A copy of it, asked while it is away.
    pub plc_mirror: Option<Url>,
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
        let found = match (self.read(service, url, did).await, &self.settings.plc_mirror) {
            (Err(error), Some(mirror)) if service == "plc" => {
                debug!(%did, error = error.chain(), "the directory is away; its mirror is asked");
                let copy = match entry(mirror, did) {
                    Some(url) => self.read("plc_mirror", url, did).await,
                    None => Ok(None),
                };
                match copy {
                    Ok(Some(document)) => Ok(Some(document)),
                    Ok(None) | Err(_) => Err(error),
                }
            }
            (found, _) => found,
        };
        let Some(document) = found? else { return Ok(None) };
        let handle = match document.handle() {
            Some(claimed) => self.verify(&claimed, did).await,
            None => Handle::Invalid { claimed: None },
        };
        let pds = document.pds().filter(|url| self.outbound.admits(url));
        Ok(Some(Resolved { did: did.to_string(), handle, pds, signing_key: document.signing_key() }))
    }

    /// The PDS of a DID, as of now, whatever its handle is worth; `None` without a DID, or without a PDS that may be reached.
    /// The mirror is not asked: whoever asks here ends something when an account has moved, and the mirror may not know of its
    /// latest move.
    ///
    /// Errors: as [`resolve`](Self::resolve).
    pub async fn pds(&self, did: &Did) -> Result<Option<Url>> {
        let Some((service, url)) = self.locate(did) else { return Ok(None) };
        let document = self.read(service, url, did).await?;
        Ok(document.and_then(|document| document.pds()).filter(|url| self.outbound.admits(url)))
    }

    /// Whom a handle names, as of now: the DID in the TXT record, or where there is none that at the well-known place.
    ///
    /// `None` when it names nobody, or several. That DID need not claim the handle: who shows it, or lets somebody in by it,
    /// [resolves](Self::resolve) the DID and compares. `Upstream` (service `handle`) when the domain could not be asked.
    pub async fn resolve_handle(&self, handle: &syntax::Handle) -> Result<Option<Did>> {
        let handle = handle.to_lowercase().into_string();
        if !self.may_be(&handle) {
            return Ok(None);
        }
        let by_dns = self.ask_dns(&handle).await;
        match by_dns {
            Said::One(did) => return Ok(Some(did)),
            Said::Several => return Ok(None),
            Said::Nobody | Said::Nothing => {}
        }
        match (by_dns, self.ask_web(&handle).await) {
            (_, Said::One(did)) => Ok(Some(did)),
            (Said::Nobody, Said::Several | Said::Nobody) => Ok(None),
            // On a local network handles have DNS records and seldom a web server of their own.
            (Said::Nobody, Said::Nothing) if self.outbound.allows_private() => Ok(None),
            // DNS is preferred and was silent, so a denial by the web is not the last word.
            _ => Err(Error::upstream("handle", anyhow!("nobody could say whom {handle} names"))),
        }
    }

    /// The document at a URL; `None` when the DID does not exist.
    async fn read(&self, service: &'static str, url: Url, did: &Did) -> Result<Option<Document>> {
        let request = Request { max_body_bytes: Some(MAX_DOCUMENT_BYTES), ..Request::get(url) };
        let answer = match self.outbound.send(service, request).await {
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
        Ok(Some(document))
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
                Some(("plc", entry(&self.settings.plc_url, did)?))
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

    /// Whether a handle, in lower case, may name anybody at all.
    fn may_be(&self, handle: &str) -> bool {
        let top = handle.rsplit('.').next().unwrap_or_default();
        let is_reserved = DISALLOWED.contains(&top) || (top == "test" && !self.outbound.allows_private());
        !is_reserved && handle.len() <= MAX_HANDLE_BYTES
    }

    /// Asks the handle's domain, DNS first, whether it names the DID.
    async fn verify(&self, claimed: &syntax::Handle, did: &Did) -> Handle {
        let handle = claimed.to_lowercase().into_string();
        if !self.may_be(&handle) {
            return Handle::Invalid { claimed: Some(handle) };
        }
        let by_dns = self.ask_dns(&handle).await;
        let by_web = match &by_dns {
            Said::One(named) if named == did => return Handle::Verified(handle),
            Said::One(_) | Said::Several => return Handle::Invalid { claimed: Some(handle) },
            Said::Nobody | Said::Nothing => self.ask_web(&handle).await,
        };
        match (by_dns, by_web) {
            (_, Said::One(named)) if named == *did => Handle::Verified(handle),
            (Said::Nobody, Said::One(_) | Said::Several | Said::Nobody) => Handle::Invalid { claimed: Some(handle) },
            // On a local network handles have DNS records and seldom a web server of their own.
            (Said::Nobody, _) if self.outbound.allows_private() => Handle::Invalid { claimed: Some(handle) },
            // DNS is preferred and was silent, so a denial by the web is not the last word.
            _ => Handle::Unknown,
        }
    }

    async fn ask_dns(&self, handle: &str) -> Said {
        let Ok(texts) =
            self.outbound.txt(&format!("_atproto.{handle}")).await.inspect_err(|error| unanswered(handle, error))
        else {
            return Said::Nothing;
        };
        let named: BTreeSet<&str> = texts.iter().filter_map(|text| text.trim().strip_prefix("did=")).collect();
        match (named.len(), named.first().and_then(|named| Did::parse(named.trim()).ok())) {
            (0, _) => Said::Nobody,
            (1, Some(did)) => Said::One(did),
            _ => Said::Several,
        }
    }

    async fn ask_web(&self, handle: &str) -> Said {
        let Ok(url) = Url::parse(&format!("https://{handle}/.well-known/atproto-did")) else { return Said::Nobody };
        let request = Request { max_body_bytes: Some(MAX_DOCUMENT_BYTES), ..Request::get(url) };
        match self.outbound.send("handle", request).await {
            Ok(answer) if answer.is_success() => named_by(&answer),
            Ok(answer) if answer.status < 500 => Said::Nobody,
            Ok(_) => Said::Nothing,
            // The domain is gone, points where nobody may look, or shows a page: that is an answer.
            Err(error) if has_no_address(&error) || is_too_large(&error) || matches!(error, Error::Invalid { .. }) => {
                Said::Nobody
            }
            Err(error) => {
                unanswered(handle, &error);
                Said::Nothing
            }
        }
    }
}

/// What one way of asking said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// The domain names this DID.
    One(Did),
    /// The domain names several, or what is no DID.
    Several,
    /// The domain names no DID.
    Nobody,
    /// There was no answer.
    Nothing,
}

/// Where a directory keeps a DID's document.
fn entry(directory: &Url, did: &Did) -> Option<Url> {
    let mut url = directory.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push(did.as_str());
    Some(url)
}

fn named_by(answer: &Answer) -> Said {
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    Did::parse(text.trim()).map_or(Said::Nobody, Said::One)
}

fn unanswered(handle: &str, error: &Error) {
    debug!(handle, error = error.chain(), "a handle could not be checked");
}
