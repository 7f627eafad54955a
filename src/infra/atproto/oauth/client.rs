//! Who the gateway is to authorization servers.
//!
//! With a public URL it is a confidential client: its metadata and keys are published under that URL, and it signs what it
//! asks of the token endpoint. Without one it is the public client that the protocol keeps for development: its id holds
//! all there is to know, and people come back to 127.0.0.1, so that login works on a laptop.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use url::{Host, Url, form_urlencoded};
use uuid::Uuid;

use super::{keyset::Keyset, sign_in_again};
use crate::error::{Error, Result};

/// Where the metadata are served, under the public URL: the client's id.
pub const METADATA_PATH: &str = "/oauth/client-metadata.json";
/// Where the public keys are served.
pub const KEYS_PATH: &str = "/oauth/jwks.json";
/// Where people come back to.
pub const CALLBACK_PATH: &str = "/oauth/callback";

/// Seconds for which an assertion is good.
const ASSERTION: i64 = 60;

/// Who the gateway says to be.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// URL under which the network reaches the gateway; none: only people of this machine do.
    pub public_url: Option<Url>,
    /// A JWK set, or the path of one; see [`Keyset::read`].
    pub keys: Option<String>,
    /// What people are told whom they let in.
    pub name: String,
    /// Every scope that is ever asked for.
    pub scope: String,
}

/// The gateway as a client.
#[derive(Clone, Debug)]
pub struct Client {
    id: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Confidential { callback: String, keys: Keyset, metadata: Value },
    Loopback,
}

impl Client {
    /// Fails with `CONFIG_INVALID` for a URL that cannot be a client's, or one without keys.
    pub fn new(settings: &ClientSettings) -> Result<Self> {
        let Some(public) = &settings.public_url else { return Ok(Self::loopback(&settings.scope)) };
        let refused = |field: &'static str, why: &'static str| Error::invalid(field, "CONFIG_INVALID", why);
        let is_origin = public.path() == "/" && public.query().is_none() && public.fragment().is_none();
        let is_plain = public.username().is_empty() && public.password().is_none() && public.port().is_none();
        if public.scheme() != "https" || !matches!(public.host(), Some(Host::Domain(_))) || !is_origin || !is_plain {
            return Err(refused("http.public_url", "expected https:// and a name, without a port or a path"));
        }
        let why = "needed with http.public_url; `openmeet-gateway oauth-key` makes one";
        let keys = Keyset::read(settings.keys.as_deref().ok_or_else(|| refused("oauth.keys", why))?)?;
        let at = |path: &str| public.join(path).map(String::from).map_err(Error::bug);
        let (id, callback) = (at(METADATA_PATH)?, at(CALLBACK_PATH)?);
        let metadata = json!({
            "client_id": id,
            "client_name": settings.name,
            "client_uri": public.as_str(),
            "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": settings.scope,
            "redirect_uris": [callback],
            "dpop_bound_access_tokens": true,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks_uri": at(KEYS_PATH)?,
        });
        Ok(Self { id, kind: Kind::Confidential { callback, keys, metadata } })
    }

    fn loopback(scope: &str) -> Self {
        // Any port is allowed at the redirect, whichever stands here.
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("redirect_uri", &format!("http://127.0.0.1{CALLBACK_PATH}"))
            .append_pair("redirect_uri", &format!("http://[::1]{CALLBACK_PATH}"))
            .append_pair("scope", scope)
            .finish();
        Self { id: format!("http://localhost?{query}"), kind: Kind::Loopback }
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it can prove who it is; its sessions may then last.
    pub fn is_confidential(&self) -> bool {
        matches!(self.kind, Kind::Confidential { .. })
    }

    /// What is served at [`METADATA_PATH`]; none for a public client, which has no such place.
    pub fn metadata(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Confidential { metadata, .. } => Some(metadata),
            Kind::Loopback => None,
        }
    }

    /// What is served at [`KEYS_PATH`].
    pub fn public_keys(&self) -> Option<Value> {
        self.keys().map(Keyset::public)
    }

    /// Where people come back to who opened the gateway at this origin.
    ///
    /// Fails with `LOGIN_ADDRESS` for a public client at another address than the machine's own.
    pub(super) fn callback(&self, origin: &Url) -> Result<String> {
        if let Kind::Confidential { callback, .. } = &self.kind {
            return Ok(callback.clone());
        }
        let is_own = match origin.host() {
            Some(Host::Ipv4(ip)) => ip.octets() == [127, 0, 0, 1],
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            _ => false,
        };
        if origin.scheme() != "http" || !is_own {
            let why = "without a public URL, login works at http://127.0.0.1 only";
            return Err(Error::invalid("http.public_url", "LOGIN_ADDRESS", why));
        }
        origin.join(CALLBACK_PATH).map(String::from).map_err(Error::bug)
    }

    /// Id of the key that signs for a new login.
    pub(super) fn newest_key(&self) -> Option<String> {
        self.keys().and_then(Keyset::newest).map(str::to_owned)
    }

    /// The fields of a form by which a server knows the client, signed with the key of this id.
    ///
    /// Fails with `SIGN_IN_AGAIN` when the key was taken away.
    pub(super) fn authenticate(
        &self,
        key: Option<&str>,
        issuer: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut fields = vec![("client_id", self.id.clone())];
        if let Some(keys) = self.keys() {
            let id = key.ok_or_else(sign_in_again)?;
            let key = keys.find(id).ok_or_else(sign_in_again)?;
            let now = now.timestamp();
            let claims = json!({
                "iss": self.id,
                "sub": self.id,
                "aud": issuer,
                "jti": Uuid::now_v7().simple().to_string(),
                "iat": now,
                "exp": now + ASSERTION,
            });
            fields.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()));
            fields.push(("client_assertion", key.sign(json!({ "typ": "JWT", "kid": id }), &claims)));
        }
        Ok(fields)
    }

    fn keys(&self) -> Option<&Keyset> {
        match &self.kind {
            Kind::Confidential { keys, .. } => Some(keys),
            Kind::Loopback => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::clock::Clock;

    fn settings(url: Option<&str>, keys: Option<String>) -> ClientSettings {
        let public_url = url.map(|url| url.parse().unwrap());
        ClientSettings { public_url, keys, name: "OpenMeet".to_owned(), scope: "atproto blob:image/*".to_owned() }
    }

    #[test]
    fn a_confidential_client_publishes_all_that_the_protocol_requires() {
        let keys = Keyset::generate().unwrap().to_string();
        let client = Client::new(&settings(Some("https://gateway.example.org"), Some(keys.clone()))).unwrap();
        let metadata = client.metadata().unwrap();
        assert_eq!(metadata["client_id"], client.id());
        assert_eq!(client.id(), "https://gateway.example.org/oauth/client-metadata.json");
        assert_eq!(metadata["jwks_uri"], "https://gateway.example.org/oauth/jwks.json");
        assert_eq!(client.callback(&"http://evil.example".parse().unwrap()).unwrap(), metadata["redirect_uris"][0]);
        let secret: Value = serde_json::from_str(&keys).unwrap();
        let published = client.public_keys().unwrap().to_string() + &metadata.to_string();
        assert!(!published.contains(secret["keys"][0]["d"].as_str().unwrap()));
        assert!(client.authenticate(Some("unknown"), "https://pds.example.org", Clock::system().now()).is_err());
        let forms = [(), ()].map(|()| {
            client
                .authenticate(client.newest_key().as_deref(), "https://pds.example.org", Clock::system().now())
                .unwrap()
        });
        assert_ne!(forms[0][2], forms[1][2], "no assertion is used twice");
    }

    #[test]
    fn what_cannot_be_a_client_is_refused() {
        let keys = || Some(Keyset::generate().unwrap().to_string());
        for url in [
            "http://gateway.example.org",
            "https://gateway.example.org:8443",
            "https://gateway.example.org/path",
            "https://127.0.0.1",
            "https://me:secret@gateway.example.org",
            "https://gateway.example.org/?a=b",
        ] {
            assert_eq!(Client::new(&settings(Some(url), keys())).unwrap_err().reason(), "CONFIG_INVALID", "{url}");
        }
        assert!(Client::new(&settings(Some("https://gateway.example.org"), None)).is_err(), "keys are needed");
    }

    #[test]
    fn a_public_client_is_at_home_on_its_own_machine_only() {
        let client = Client::new(&settings(None, None)).unwrap();
        assert_eq!(
            client.id(),
            "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Foauth%2Fcallback\
             &redirect_uri=http%3A%2F%2F%5B%3A%3A1%5D%2Foauth%2Fcallback&scope=atproto+blob%3Aimage%2F*"
        );
        let callback = |origin: &str| client.callback(&origin.parse().unwrap());
        assert_eq!(callback("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/oauth/callback");
        assert_eq!(callback("http://[::1]:8080").unwrap(), "http://[::1]:8080/oauth/callback");
        for origin in ["http://localhost:8080", "http://192.168.0.1", "https://127.0.0.1", "http://127.0.0.1.nip.io"] {
            assert_eq!(callback(origin).unwrap_err().reason(), "LOGIN_ADDRESS", "{origin}");
        }
    }
}
