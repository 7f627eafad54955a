//! Sealing what is secret before it is kept: XChaCha20-Poly1305 under one of several keys.
//!
//! Promise: what [`Seal::close`] gives tells nothing but its length, and [`Seal::open`] gives back what was sealed for the
//! same purpose under a key that is still known, and nothing else. A purpose names the place where the value is kept, so
//! that a value which somebody moved to another place does not open there.
//!
//! The first key seals, all open: keys are exchanged by putting a new one before the old one, and taking the old one away
//! when nothing that it sealed lives any longer. The keys come from the configuration, or from a file beside the SQLite
//! database, which is made when it is first needed and which only its owner may read. A database on a server has no such
//! place: without keys nothing is sealed there, and whatever needs it is refused.

mod file;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Bytes of a key.
const KEY: usize = 32;
/// What every sealed value begins with: the form of the rest.
const FORM: u8 = 1;
const ID: usize = 4;
const NONCE: usize = 24;
/// Form, id of the key and nonce.
const HEAD: usize = 1 + ID + NONCE;

/// Where the keys come from.
#[derive(Clone, Default)]
pub struct SealSettings {
    /// Keys in base64url, the one that seals first.
    pub keys: Vec<String>,
    /// Where a key is kept when none is given; none: nowhere.
    pub file: Option<PathBuf>,
}

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<Inner>);

struct Inner {
    settings: SealSettings,
    keys: OnceLock<Vec<Key>>,
}

struct Key {
    id: [u8; ID],
    cipher: XChaCha20Poly1305,
}

impl Seal {
    /// Checks the keys that are given; a key file is read, or made, when something is first sealed or opened.
    ///
    /// Fails with `CONFIG_INVALID` for what is no key.
    pub fn new(settings: SealSettings) -> Result<Self> {
        let keys = settings.keys.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
        let known = OnceLock::new();
        if !keys.is_empty() {
            known.set(keys).ok();
        }
        Ok(Self(Arc::new(Inner { settings, keys: known })))
    }

    /// A new key, as the configuration takes it.
    pub fn generate() -> Result<String> {
        let mut key = [0; KEY];
        fill(&mut key)?;
        Ok(BASE64URL_NOPAD.encode(&key))
    }

    /// Seals a value for a purpose.
    ///
    /// Fails with `Unavailable { service: "seal" }` where there is no key.
    pub fn close(&self, purpose: &str, value: &[u8]) -> Result<Vec<u8>> {
        let key = self.keys()?.first().ok_or_else(|| Error::bug(anyhow::anyhow!("no key to seal with")))?;
        let mut nonce = [0; NONCE];
        fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(HEAD + value.len() + 16);
        sealed.push(FORM);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let bound = bound(key.id, purpose);
        let text = key.cipher.encrypt(&XNonce::from(nonce), Payload { msg: value, aad: &bound });
        sealed.extend_from_slice(&text.map_err(|_| Error::bug(anyhow::anyhow!("a value was not sealed")))?);
        Ok(sealed)
    }

    /// Opens what was sealed for this purpose. `None` for everything else: other bytes, another purpose, an unknown key.
    ///
    /// Fails with `Unavailable { service: "seal" }` where there is no key.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        let keys = self.keys()?;
        let opened = || {
            let (form, rest) = sealed.split_first()?;
            let (id, rest) = rest.split_first_chunk::<ID>()?;
            let (nonce, text) = rest.split_first_chunk::<NONCE>()?;
            if *form != FORM {
                return None;
            }
            let key = keys.iter().find(|key| key.id == *id)?;
            key.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: &bound(*id, purpose) }).ok()
        };
        Ok(opened())
    }

    fn keys(&self) -> Result<&[Key]> {
        if let Some(keys) = self.0.keys.get() {
            return Ok(keys);
        }
        let unavailable = |source| Error::Unavailable { service: "seal", source };
        let Some(path) = &self.0.settings.file else {
            return Err(unavailable(anyhow::anyhow!(
                "secrets.keys is not set; `openmeet-gateway secret-key` makes one"
            )));
        };
        let text = file::read_or_make(path).map_err(|error| unavailable(error.into()))?;
        let key = parse(text.trim()).map_err(|error| unavailable(error.into()))?;
        Ok(self.0.keys.get_or_init(|| vec![key]))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("keys", &self.0.keys.get().map(Vec::len)).finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<Key> {
    let refused = || Error::invalid("secrets.keys", "CONFIG_INVALID", "expected keys of 32 bytes in base64url");
    let bytes = BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map_err(|_| refused())?;
    if bytes.len() != KEY {
        return Err(refused());
    }
    let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| refused())?;
    let digest = Sha256::new().chain_update(b"openmeet-gateway seal ").chain_update(&bytes).finalize();
    let id = digest.first_chunk().copied().unwrap_or_default();
    Ok(Key { id, cipher })
}

/// What is authenticated beside the value.
fn bound(id: [u8; ID], purpose: &str) -> Vec<u8> {
    [&[FORM], id.as_slice(), purpose.as_bytes()].concat()
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::bug(anyhow::anyhow!("no random bytes: {error}")))
}
