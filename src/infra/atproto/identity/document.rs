//! The DID document, as far as it is needed; everything else may have any shape.

use serde_json::Value;
use url::Url;

use crate::infra::atproto::{syntax::Handle, vouched::SigningKey};

pub(super) struct Document(Value);

impl Document {
    pub(super) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text).map(Self)
    }

    /// Whose document it says to be.
    pub(super) fn id(&self) -> Option<&str> {
        self.0.get("id")?.as_str()
    }

    /// The handle that the DID claims: the first alias that is one. The others do not count.
    pub(super) fn handle(&self) -> Option<Handle> {
        let handle = |alias: &Value| Handle::parse(alias.as_str()?.strip_prefix("at://")?).ok();
        one_or_many(self.0.get("alsoKnownAs")?).iter().find_map(handle)
    }

    /// Key of the repository: the first method with its id, if it is of a known kind.
    pub(super) fn signing_key(&self) -> Option<SigningKey> {
        let is_key =
            |method: &&Value| method.get("id").and_then(Value::as_str).is_some_and(|id| id.ends_with("#atproto"));
        let method = one_or_many(self.0.get("verificationMethod")?).iter().find(is_key)?;
        SigningKey::parse(method.get("type")?.as_str()?, method.get("publicKeyMultibase")?.as_str()?)
    }

    /// Origin of the PDS: the first service with its id, if it is of its type and has a URL.
    pub(super) fn pds(&self) -> Option<Url> {
        let is_pds =
            |service: &&Value| service.get("id").and_then(Value::as_str).is_some_and(|id| id.ends_with("#atproto_pds"));
        let service = one_or_many(self.0.get("service")?).iter().find(is_pds)?;
        let is_type = |kind: &Value| kind.as_str() == Some("AtprotoPersonalDataServer");
        if !one_or_many(service.get("type")?).iter().any(is_type) {
            return None;
        }
        let mut url = Url::parse(service.get("serviceEndpoint")?.as_str()?).ok()?;
        if url.cannot_be_a_base() {
            return None;
        }
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    }
}

/// JSON-LD lets a list of one stand without its brackets.
fn one_or_many(value: &Value) -> &[Value] {
    match value {
        Value::Array(many) => many,
        one => std::slice::from_ref(one),
    }
}
