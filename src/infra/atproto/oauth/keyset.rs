//! The keys with which the gateway proves who it is to authorization servers.
//!
//! The first key signs for new logins, all are published: keys are exchanged by putting a new one before the old ones. A
//! login stays with the key that it began with, and ends when that key is taken away.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::key::Key;
use crate::error::{Error, Result};

/// Most keys; authorization servers read them all.
const MOST: usize = 10;
const FIELD: &str = "oauth.keys";

/// Keys with their ids, at least one.
#[derive(Clone, Debug)]
pub struct Keyset(Vec<(String, Key)>);

impl Keyset {
    /// Reads a JWK set, or a single private JWK: the text itself, or that of the file which it names.
    ///
    /// Fails with `CONFIG_INVALID`, and with `CONFIG_UNREADABLE` for a file that cannot be read; keys are never repeated.
    pub fn read(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::parse(text);
        }
        let unreadable = |error| Error::invalid(FIELD, "CONFIG_UNREADABLE", format!("{text} cannot be read: {error}"));
        Self::parse(&fs::read_to_string(Path::new(text)).map_err(unreadable)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let refused = |why: &'static str| Error::invalid(FIELD, "CONFIG_INVALID", why);
        let set: Value = serde_json::from_str(text).map_err(|_| refused("expected a JWK set, which is JSON"))?;
        let jwks = match set.get("keys") {
            Some(Value::Array(jwks)) => jwks.as_slice(),
            Some(_) => return Err(refused("expected a list of keys")),
            None => std::slice::from_ref(&set),
        };
        if jwks.is_empty() || jwks.len() > MOST {
            return Err(refused("expected 1 to 10 keys"));
        }
        let mut keys: Vec<(String, Key)> = Vec::with_capacity(jwks.len());
        for jwk in jwks {
            let key = Key::from_jwk(jwk).map_err(refused)?;
            let id = jwk.get("kid").and_then(Value::as_str).map_or_else(|| key.thumbprint(), str::to_owned);
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(refused("two keys have the same id"));
            }
            keys.push((id, key));
        }
        Ok(Self(keys))
    }

    /// A new set of one key, as the configuration takes it.
    pub fn generate() -> Result<Value> {
        Ok(json!({ "keys": [Key::generate()?.private()] }))
    }

    /// Id of the key for new logins.
    pub fn newest(&self) -> Option<&str> {
        self.0.first().map(|(id, _)| id.as_str())
    }

    /// The key with this id.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// The public parts as a JWK set.
    pub fn public(&self) -> Value {
        let publish = |(id, key): &(String, Key)| {
            let mut jwk = key.public();
            if let Some(jwk) = jwk.as_object_mut() {
                jwk.insert("kid".to_owned(), id.as_str().into());
                jwk.insert("alg".to_owned(), "ES256".into());
                jwk.insert("use".to_owned(), "sig".into());
            }
            jwk
        };
        json!({ "keys": self.0.iter().map(publish).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_signs_and_only_public_parts_are_told() {
        let (new, old) = (Key::generate().unwrap().private(), Key::generate().unwrap().private());
        let set = Keyset::read(&json!({ "keys": [new, old] }).to_string()).unwrap();
        assert_eq!(set.newest(), new["kid"].as_str());
        assert!(set.find(old["kid"].as_str().unwrap()).is_some() && set.find("other").is_none());
        let public = set.public();
        assert_eq!(public["keys"].as_array().unwrap().len(), 2);
        for secret in [&new["d"], &old["d"]] {
            assert!(!public.to_string().contains(secret.as_str().unwrap()));
        }
        assert_eq!(Keyset::read(&new.to_string()).unwrap().newest(), new["kid"].as_str(), "a key alone will do");
    }

    #[test]
    fn keys_are_read_from_a_file_and_mistakes_do_not_repeat_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        fs::write(&file, Keyset::generate().unwrap().to_string()).unwrap();
        Keyset::read(file.to_str().unwrap()).unwrap();
        let good = Key::generate().unwrap().private();
        let secret = good["d"].as_str().unwrap();
        let twice = json!({ "keys": [good, good] }).to_string();
        let cut = &good.to_string()[..good.to_string().len() - 1];
        for text in ["/nowhere.json", "{}", r#"{"keys":[]}"#, r#"{"keys":7}"#, &twice, cut] {
            let error = Keyset::read(text).unwrap_err();
            assert!(error.reason().starts_with("CONFIG_"), "{text}");
            assert!(!error.chain().contains(secret));
        }
    }
}
