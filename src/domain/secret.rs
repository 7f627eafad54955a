//! Secrets that open something: 256 random bits behind a public prefix.
//!
//! Such a text is told once. Only its SHA-256 is kept, which needs no salt and no slow hash, since nobody guesses 256 bits;
//! the prefix finds the row, and the hashes are compared in constant time.

use data_encoding::BASE32_NOPAD_NOCASE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};

/// Characters of the prefix: 80 random bits, which no two secrets share.
pub(super) const PREFIX: usize = 16;
/// Bytes that are random and secret.
const SECRET: usize = 32;

/// A secret that was made just now.
pub(super) struct Made {
    /// All of it, which is told nobody again.
    pub(super) text: String,
    /// Its public part.
    pub(super) prefix: String,
    /// What is kept to recognise it.
    pub(super) hash: Vec<u8>,
}

/// `MARKPREFIX_SECRET`, both in lower-case base 32: a double click selects all of it. By the mark one that has leaked is
/// found by whoever searches for such things.
pub(super) fn new(mark: &str) -> Result<Made> {
    let mut random = [0_u8; SECRET + PREFIX * 5 / 8];
    getrandom::fill(&mut random).map_err(|error| Error::bug(anyhow::anyhow!("no random bytes: {error}")))?;
    let (secret, prefix) = random.split_at(SECRET);
    let encode = |bytes: &[u8]| BASE32_NOPAD_NOCASE.encode(bytes).to_ascii_lowercase();
    let prefix = format!("{mark}{}", encode(prefix));
    let text = format!("{prefix}_{}", encode(secret));
    let hash = hash(&text);
    Ok(Made { text, prefix, hash })
}

/// The public part of what has the form of such a secret, with its mark.
pub(super) fn prefix_of(mark: &str, text: &str) -> Option<String> {
    let is_base32 = |part: &str| part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    let (prefix, secret) = text.strip_prefix(mark)?.split_once('_')?;
    let is_secret = prefix.len() == PREFIX && secret.len() == (SECRET * 8).div_ceil(5);
    (is_secret && is_base32(prefix) && is_base32(secret)).then(|| format!("{mark}{prefix}"))
}

/// Whether this is the text that was kept as `hash`.
pub(super) fn is(text: &str, kept: &[u8]) -> bool {
    kept.ct_eq(&hash(text)).into()
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}
