//! What a PDS says in a person's name: the tokens of `com.atproto.server.getServiceAuth`, signed with the key of the person's
//! repository. They are read here and their signatures checked; what they may open is decided elsewhere.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const LONGEST: usize = 4_096;

/// Longest key in a DID document; one of these curves has a hundred characters and less.
const LONGEST_KEY: usize = 200;

/// A curve with which repositories sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// NIST P-256: `ES256`.
    P256,
    /// secp256k1: `ES256K`.
    K256,
}

/// The public key of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    curve: Curve,
    /// The point as SEC 1 has it.
    point: Vec<u8>,
}

impl SigningKey {
    /// From a method of a DID document: its type, and its key in multibase. `None` for what is no key of these curves.
    pub fn parse(kind: &str, multibase: &str) -> Option<Self> {
        // Numbers in base 58 take the square of their length to read.
        let text = Some(multibase).filter(|text| text.len() <= LONGEST_KEY)?;
        let (_, bytes) = multibase::decode(text).ok()?;
        let (curve, point) = match (kind, bytes.as_slice()) {
            // The curve as a multicodec.
            ("Multikey", [0x80, 0x24, point @ ..]) => (Curve::P256, point),
            ("Multikey", [0xe7, 0x01, point @ ..]) => (Curve::K256, point),
            ("EcdsaSecp256r1VerificationKey2019", point) => (Curve::P256, point),
            ("EcdsaSecp256k1VerificationKey2019", point) => (Curve::K256, point),
            _ => return None,
        };
        let is_point = match curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point).is_ok(),
            Curve::K256 => k256::ecdsa::VerifyingKey::from_sec1_bytes(point).is_ok(),
        };
        is_point.then(|| Self { curve, point: point.to_vec() })
    }

    /// Whether this is the key's signature of the message, in the one form that the protocol allows of the two that there are.
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        macro_rules! verify {
            ($curve:ident) => {{
                use $curve::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};
                let key = VerifyingKey::from_sec1_bytes(&self.point);
                let signature = Signature::from_slice(signature).ok().filter(|one| one.normalize_s() == *one);
                key.ok().zip(signature).is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
            }};
        }
        match self.curve {
            Curve::P256 => verify!(p256),
            Curve::K256 => verify!(k256),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The DID in whose name it speaks.
    pub iss: String,
    /// For whom it is meant.
    pub aud: String,
    /// Second of the Unix age from which on it says nothing any more.
    pub exp: i64,
    /// Second in which it was made, if it says so.
    #[serde(default)]
    pub iat: Option<i64>,
    /// What it may be used for.
    #[serde(default)]
    pub lxm: Option<String>,
    /// Tells it apart from all others of its DID.
    #[serde(default)]
    pub jti: Option<String>,
}

/// A token whose signature was not looked at yet: it may say anything.
#[derive(Debug)]
pub struct Token<'a> {
    /// What it says.
    pub claims: Claims,
    curve: Curve,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Whether this has the form of a token: three parts, of which the first is a header in JSON.
pub fn is_token(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Token<'a> {
    /// Reads a token; `None` for what is none, or one of another kind.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST || !is_token(text) {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        // Access and refresh tokens of a PDS are of other types, and meant for the PDS.
        if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt")) {
            return None;
        }
        let curve = match header.alg.as_str() {
            "ES256" => Curve::P256,
            "ES256K" => Curve::K256,
            _ => return None,
        };
        let claims = serde_json::from_slice(&decode(claims)?).ok()?;
        Some(Self { claims, curve, signed, signature: decode(signature)? })
    }

    /// Whether the owner of the key has signed it.
    pub fn is_signed_by(&self, key: &SigningKey) -> bool {
        key.curve == self.curve && key.has_signed(self.signed.as_bytes(), &self.signature)
    }
}
