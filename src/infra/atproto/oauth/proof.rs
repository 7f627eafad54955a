//! Proof of possession (DPoP, RFC 9449): every request shows that whoever sends it holds the session's own key.
//!
//! A server hands out nonces, each good for minutes: the last one of each server is kept with the key. A server that wants
//! another one is asked once more with it, and never a third time. An answer that a proof was shown to and that brings no
//! nonce is refused, as the protocol demands.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    key::{Key, digest},
    refused::Refusal,
};
use crate::{
    error::{Error, Result},
    infra::{
        clock::Clock,
        http::{Answer, HeaderName, HeaderValue, Outbound, Request},
    },
};

const NONCE_HEADER: &str = "dpop-nonce";
const MAX_NONCE: usize = 512;
/// Servers whose nonces are kept: one session talks to its PDS and to its authorization server.
const MAX_SERVERS: usize = 8;

/// The key of one session, with the servers' nonces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Proofs {
    key: Key,
    nonces: BTreeMap<String, String>,
}

/// How requests are sent.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) outbound: &'a Outbound,
    pub(super) clock: &'a Clock,
    /// Kind of host, for metrics and errors.
    pub(super) service: &'static str,
}

impl Proofs {
    /// With a new key.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { key: Key::generate()?, nonces: BTreeMap::new() })
    }

    /// Sends a request with a proof, and again when the server wants another nonce; `make` makes it anew each time, so that
    /// nothing signed is used twice. `token` is shown to resource servers.
    ///
    /// Fails as the client does, and with `Upstream` for an answer without a nonce.
    pub(super) async fn send(
        &mut self,
        way: Way<'_>,
        token: Option<&str>,
        make: impl Fn() -> Result<Request> + Send,
    ) -> Result<Answer> {
        let mut is_last = false;
        loop {
            let mut request = make()?;
            let server = request.url.origin().ascii_serialization();
            let nonce = self.nonces.get(&server).map(String::as_str);
            let proof = self.prove(&request, nonce, token, way.clock);
            request = request.with(HeaderName::from_static("dpop"), header(&proof)?);
            if let Some(token) = token {
                request = request.with(HeaderName::from_static("authorization"), header(&format!("DPoP {token}"))?);
            }
            let answer = way.outbound.send(way.service, request).await?;
            match answer.header(NONCE_HEADER).filter(|nonce| is_nonce(nonce)) {
                Some(nonce) => self.keep(server, nonce.to_owned()),
                // What answers for a server that is away knows nothing of nonces.
                None if answer.status >= 500 => {}
                None => return Err(Error::upstream(way.service, anyhow!("an answer without DPoP-Nonce"))),
            }
            if is_last || !wants_nonce(&answer) {
                return Ok(answer);
            }
            is_last = true;
        }
    }

    fn keep(&mut self, server: String, nonce: String) {
        if self.nonces.len() >= MAX_SERVERS && !self.nonces.contains_key(&server) {
            self.nonces.pop_first();
        }
        self.nonces.insert(server, nonce);
    }

    /// Whether the nonces differ from those of another state of the same session.
    pub(super) fn differ(&self, other: &Self) -> bool {
        self.nonces != other.nonces
    }

    fn prove(&self, request: &Request, nonce: Option<&str>, token: Option<&str>, clock: &Clock) -> String {
        let mut url = request.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let mut claims = json!({
            "jti": Uuid::now_v7().simple().to_string(),
            "htm": request.method.as_str(),
            "htu": url.as_str(),
            "iat": clock.now().timestamp(),
        });
        if let Some(claims) = claims.as_object_mut() {
            if let Some(nonce) = nonce {
                claims.insert("nonce".to_owned(), nonce.into());
            }
            if let Some(token) = token {
                claims.insert("ath".to_owned(), digest(token.as_bytes()).into());
            }
        }
        self.key.sign(json!({ "typ": "dpop+jwt", "jwk": self.key.public() }), &claims)
    }
}

/// The value of a header; what cannot be one is a mistake of ours, since foreign texts are checked before.
pub(super) fn header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(Error::bug)?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_nonce(text: &str) -> bool {
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a server asks for another nonce: an authorization server in the body, a resource server in a header.
fn wants_nonce(answer: &Answer) -> bool {
    const WANTED: &str = "use_dpop_nonce";
    match answer.status {
        400 => Refusal::of(answer).is_some_and(|refusal| refusal.error == WANTED),
        401 => challenge(answer).is_some_and(|error| error == WANTED),
        _ => false,
    }
}

/// The error of a `WWW-Authenticate: DPoP` header.
pub(super) fn challenge(answer: &Answer) -> Option<String> {
    let header = answer.header("www-authenticate")?;
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("dpop") {
        return None;
    }
    let error = |part: &str| part.trim().strip_prefix("error=").map(|error| error.trim_matches('"').to_owned());
    rest.split(',').find_map(error)
}

/// The JSON object of an answer.
pub(super) fn object(answer: &Answer) -> Option<Value> {
    serde_json::from_slice::<Value>(&answer.body).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    #[test]
    fn a_proof_names_the_request_and_is_never_the_same() {
        let proofs = Proofs::new().unwrap();
        let request = Request::get("https://pds.example/xrpc/a.b.c?cursor=7#part".parse().unwrap());
        let clock = Clock::system();
        let claims = || {
            let proof = proofs.prove(&request, Some("n-1"), Some("token"), &clock);
            let claims = proof.split('.').nth(1).unwrap().to_owned();
            serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap()
        };
        let (one, other) = (claims(), claims());
        assert_eq!((&one["htm"], &one["htu"]), (&json!("GET"), &json!("https://pds.example/xrpc/a.b.c")));
        assert_eq!((&one["nonce"], &one["ath"]), (&json!("n-1"), &json!(digest(b"token"))));
        assert_ne!(one["jti"], other["jti"]);
    }
}
