//! Which authorization server speaks for a PDS, and what it can do.
//!
//! Both documents are read without following redirects, must be answered with 200 and as JSON, and must speak of
//! themselves. A server that cannot do what the protocol requires is refused before anything is asked of it.

use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    error::{Error, Result},
    infra::{
        http::{Answer, Outbound, Request},
        kv::Kv,
    },
};

/// Kind of host, for metrics and errors.
pub(super) const SERVICE: &str = "oauth";
/// Longest document that is read.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// How long what a server says of itself is believed.
const CACHED: Duration = Duration::from_mins(5);
const MAX_URL: usize = 2_048;

/// An authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    /// Its name, an origin without a slash at the end, letter for letter.
    pub(super) issuer: String,
    /// Where requests are pushed to.
    #[serde(with = "text")]
    pub(super) par: Url,
    /// Where people are sent to.
    #[serde(with = "text")]
    pub(super) authorize: Url,
    /// Where tokens come from.
    #[serde(with = "text")]
    pub(super) token: Url,
    /// Where tokens are given back.
    #[serde(with = "text_or_none")]
    pub(super) revoke: Option<Url>,
}

/// A URL as its text.
pub(super) mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use url::Url;

    pub(in super::super) fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A URL as its text, where there is one.
pub(super) mod text_or_none {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
    use url::Url;

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(in super::super) fn serialize<S: Serializer>(url: &Option<Url>, serializer: S) -> Result<S::Ok, S::Error> {
        url.as_ref().map(Url::as_str).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The issuer that speaks for a PDS, as the PDS says now.
pub(super) async fn issuer_of(outbound: &Outbound, pds: &Url) -> Result<String> {
    let body = document(outbound, pds, "/.well-known/oauth-protected-resource").await?;
    named_issuer(&body, pds).map_err(upstream)
}

fn named_issuer(body: &Value, pds: &Url) -> anyhow::Result<String> {
    let resource = body.get("resource").and_then(Value::as_str).ok_or_else(|| anyhow!("no resource"))?;
    if resource.trim_end_matches('/') != origin(pds) {
        bail!("the PDS speaks of another resource");
    }
    match body.get("authorization_servers").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(issuer)]) if issuer.len() <= MAX_URL => Ok(issuer.clone()),
        Some([_]) => bail!("the authorization server is no URL"),
        Some([]) | None => bail!("the PDS names no authorization server"),
        Some(_) => bail!("the PDS names several authorization servers"),
    }
}

/// What an issuer says of itself, at most some minutes ago.
pub(super) async fn describe(outbound: &Outbound, kv: &Kv, issuer: &str) -> Result<Server> {
    let url = issuer_url(outbound, issuer)?;
    let fetch = async {
        let body = document(outbound, &url, "/.well-known/oauth-authorization-server").await?;
        let server = read(&body, issuer, outbound).map_err(upstream)?;
        serde_json::to_vec(&server).map(Bytes::from).map_err(Error::bug)
    };
    let known = kv.cached(&format!("oauth:{issuer}"), CACHED, fetch).await?;
    serde_json::from_slice(&known).map_err(Error::bug)
}

/// The URL of an issuer, which is an origin and nothing else.
fn issuer_url(outbound: &Outbound, issuer: &str) -> Result<Url> {
    let url = Url::parse(issuer).map_err(|_| upstream(anyhow!("the issuer is no URL")))?;
    if origin(&url) != issuer || !outbound.admits(&url) {
        return Err(upstream(anyhow!("the issuer is no origin that may be asked")));
    }
    Ok(url)
}

async fn document(outbound: &Outbound, at: &Url, path: &str) -> Result<Value> {
    let url = at.join(path).map_err(upstream)?;
    let request = Request { max_body_bytes: Some(MAX_BODY), follow_redirects: false, ..Request::get(url) };
    let answer = outbound.send(SERVICE, request).await?;
    let status = answer.status;
    if status != 200 {
        return Err(upstream(anyhow!("status {status} for {path}")));
    }
    if !is_json(&answer) {
        return Err(upstream(anyhow!("{path} is not JSON")));
    }
    serde_json::from_slice(&answer.body).map_err(upstream)
}

fn is_json(answer: &Answer) -> bool {
    let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Reads the metadata of an authorization server (RFC 8414) and holds them against what the protocol requires.
fn read(body: &Value, issuer: &str, outbound: &Outbound) -> anyhow::Result<Server> {
    if body.get("issuer").and_then(Value::as_str) != Some(issuer) {
        bail!("the server calls itself by another name");
    }
    let lists = |name: &str, wanted: &[&str]| {
        let listed = body.get(name).and_then(Value::as_array).ok_or_else(|| anyhow!("{name} is no list"))?;
        match wanted.iter().find(|wanted| !listed.iter().any(|one| one.as_str() == Some(**wanted))) {
            Some(missing) => Err(anyhow!("{name} does not list {missing}")),
            None => Ok(()),
        }
    };
    lists("response_types_supported", &["code"])?;
    lists("grant_types_supported", &["authorization_code", "refresh_token"])?;
    lists("code_challenge_methods_supported", &["S256"])?;
    lists("token_endpoint_auth_methods_supported", &["none", "private_key_jwt"])?;
    lists("token_endpoint_auth_signing_alg_values_supported", &["ES256"])?;
    lists("dpop_signing_alg_values_supported", &["ES256"])?;
    lists("scopes_supported", &["atproto"])?;
    for name in [
        "authorization_response_iss_parameter_supported",
        "require_pushed_authorization_requests",
        "client_id_metadata_document_supported",
    ] {
        if body.get(name) != Some(&Value::Bool(true)) {
            bail!("{name} is not true");
        }
    }
    if body.get("require_request_uri_registration").is_some_and(|value| *value != Value::Bool(true)) {
        bail!("require_request_uri_registration is not true");
    }
    let endpoint = |name: &str| {
        let text = body.get(name).ok_or_else(|| anyhow!("no {name}"))?;
        let text = text.as_str().filter(|text| text.len() <= MAX_URL).ok_or_else(|| anyhow!("{name} is no URL"))?;
        let url = Url::parse(text).map_err(|_| anyhow!("{name} is no URL"))?;
        if !outbound.admits(&url) || url.fragment().is_some() {
            bail!("{name} may not be asked");
        }
        Ok(url)
    };
    Ok(Server {
        issuer: issuer.to_owned(),
        par: endpoint("pushed_authorization_request_endpoint")?,
        authorize: endpoint("authorization_endpoint")?,
        token: endpoint("token_endpoint")?,
        revoke: match body.get("revocation_endpoint") {
            None | Some(Value::Null) => None,
            Some(_) => Some(endpoint("revocation_endpoint")?),
        },
    })
}

/// Scheme, host and port, without a slash at the end.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

pub(super) fn upstream(source: impl Into<anyhow::Error>) -> Error {
    Error::upstream(SERVICE, source)
}
