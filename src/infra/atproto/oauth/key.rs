//! Keys of ES256 (ECDSA on P-256 with SHA-256), their form as JWK (RFC 7517), and the tokens that they sign.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Bytes of a coordinate, and of the secret.
const SIZE: usize = 32;

/// A private key.
#[derive(Clone)]
pub struct Key(SigningKey);

impl Key {
    /// A new key.
    pub fn generate() -> Result<Self> {
        // One draw in 2^32 is no key.
        for _ in 0..4 {
            let mut secret = [0; SIZE];
            getrandom::fill(&mut secret).map_err(|error| Error::bug(anyhow::anyhow!("no random bytes: {error}")))?;
            if let Ok(key) = SigningKey::from_slice(&secret) {
                return Ok(Self(key));
            }
        }
        Err(Error::bug(anyhow::anyhow!("no key was found")))
    }

    /// The key of a private JWK. Says what is wrong with one that is none.
    pub fn from_jwk(jwk: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("kty") != Some("EC") || text("crv") != Some("P-256") || text("alg").is_some_and(|alg| alg != "ES256") {
            return Err("expected keys of the type EC on the curve P-256");
        }
        let secret = text("d").ok_or("a key has no private part")?;
        let key = Self::from_secret(secret).ok_or("the private part of a key is none")?;
        let public = key.public();
        let same = |name: &str| text(name).is_some() && public.get(name).and_then(Value::as_str) == text(name);
        if same("x") && same("y") { Ok(key) } else { Err("the two parts of a key are not of the same key") }
    }

    fn from_secret(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() == SIZE)?;
        SigningKey::from_slice(&bytes).ok().map(Self)
    }

    fn secret(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0.to_bytes())
    }

    /// The public part as a JWK, with nothing that is not needed.
    pub fn public(&self) -> Value {
        let point = self.0.verifying_key().to_sec1_point(false);
        // The form without compression: a 4, then both coordinates.
        let (x, y) = point.as_bytes().split_at_checked(1 + SIZE).unwrap_or_default();
        let x = x.get(1..).unwrap_or_default();
        json!({ "kty": "EC", "crv": "P-256", "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y) })
    }

    /// Both parts as a JWK, with an id.
    pub fn private(&self) -> Value {
        let mut jwk = self.public();
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("kid".to_owned(), self.thumbprint().into());
            jwk.insert("alg".to_owned(), "ES256".into());
            jwk.insert("use".to_owned(), "sig".into());
            jwk.insert("d".to_owned(), self.secret().into());
        }
        jwk
    }

    /// What names the key: the digest of its public part (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let public = self.public();
        let text = |name: &str| public.get(name).and_then(Value::as_str).unwrap_or_default();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text("x"), text("y"));
        digest(canonical.as_bytes())
    }

    /// A signed token (RFC 7515, compact). `header` says everything but the algorithm.
    pub fn sign(&self, mut header: Value, claims: &Value) -> String {
        if let Some(header) = header.as_object_mut() {
            header.insert("alg".to_owned(), "ES256".into());
        }
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature: Signature = self.0.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
    }
}

/// SHA-256 in base64url: of tokens, verifiers and keys.
pub(super) fn digest(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(bytes))
}

/// 256 random bits in base64url.
///
/// Fails only where the machine has no randomness.
pub fn unguessable() -> Result<String> {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes).map_err(|error| Error::bug(anyhow::anyhow!("no random bytes: {error}")))?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.thumbprint())
    }
}

/// Only for what is sealed.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.secret())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_secret(&text).ok_or_else(|| D::Error::custom("no key"))
    }
}

#[cfg(test)]
mod tests {
    use p256::{
        PublicKey,
        ecdsa::{VerifyingKey, signature::Verifier as _},
    };

    use super::*;

    fn decode(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_token_is_verified_by_the_published_key() {
        let key = Key::from_jwk(&Key::generate().unwrap().private()).unwrap();
        let token = key.sign(json!({ "typ": "dpop+jwt" }), &json!({ "jti": "1" }));
        let parts: Vec<&str> = token.split('.').collect();
        let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
        assert_eq!(header, json!({ "typ": "dpop+jwt", "alg": "ES256" }));
        let public = key.public();
        let point = [vec![4], decode(public["x"].as_str().unwrap()), decode(public["y"].as_str().unwrap())].concat();
        let verifying = VerifyingKey::from(PublicKey::from_sec1_bytes(&point).unwrap());
        let signature = Signature::from_slice(&decode(parts[2])).unwrap();
        verifying.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).unwrap();
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // Of RFC 9449, section 6.1, with the private part of no use to anybody.
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        });
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            jwk["x"].as_str().unwrap(),
            jwk["y"].as_str().unwrap()
        );
        assert_eq!(digest(canonical.as_bytes()), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = Key::generate().unwrap().private();
        let other = Key::generate().unwrap().private();
        for (name, value) in [
            ("kty", json!("RSA")),
            ("crv", json!("P-384")),
            ("alg", json!("RS256")),
            ("d", json!(null)),
            ("d", json!("AAAA")),
            ("d", json!("A".repeat(43))),
            ("d", json!("_".repeat(42) + "8")),
            ("x", other["x"].clone()),
            ("y", json!(7)),
        ] {
            let mut jwk = good.clone();
            jwk[name] = value;
            assert!(Key::from_jwk(&jwk).is_err(), "{jwk}");
        }
        assert!(Key::from_jwk(&json!([])).is_err());
    }
}
