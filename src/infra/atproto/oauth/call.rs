//! Acting as an account at its PDS, and ceasing to.

use anyhow::anyhow;
use bytes::Bytes;
use chrono::TimeDelta;
use tracing::debug;
use url::Url;

use super::{
    OAuth,
    login::Form,
    proof::{Way, challenge},
    server,
    session::{Held, Session},
    sign_in_again,
};
use crate::{
    error::{Error, Result},
    infra::{
        atproto::syntax::{Did, Nsid},
        http::{Answer, HeaderName, HeaderValue, Request},
    },
};

const SERVICE: &str = "pds";
/// A token that lives no longer is renewed before it is used.
const EARLY: TimeDelta = TimeDelta::seconds(60);

/// One XRPC request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub method: Nsid,
    /// Its parameters.
    pub query: Vec<(String, String)>,
    /// Media type and body of a procedure, which may be empty; none: a query.
    pub body: Option<(String, Bytes)>,
}

impl Call {
    /// A query.
    pub fn query(method: Nsid, query: Vec<(String, String)>) -> Self {
        Self { method, query, body: None }
    }

    /// A procedure with a JSON body.
    pub fn procedure(method: Nsid, body: &serde_json::Value) -> Self {
        Self { method, query: Vec::new(), body: Some(("application/json".to_owned(), body.to_string().into())) }
    }

    fn request(&self, pds: &Url) -> Result<Request> {
        let mut url = pds.join(&format!("/xrpc/{}", self.method)).map_err(Error::bug)?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        match &self.body {
            None => Ok(Request { follow_redirects: false, ..Request::get(url) }),
            Some((kind, body)) => {
                let kind = HeaderValue::from_str(kind)
                    .map_err(|_| Error::invalid("mediaType", "MEDIA_TYPE_MALFORMED", "it is no media type"))?;
                let request = Request::post(url, "application/octet-stream", body.clone());
                Ok(request.with(HeaderName::from_static("content-type"), kind))
            }
        }
    }
}

impl OAuth {
    /// Makes a request as this account. Whatever its PDS answers is an answer, also a refusal.
    ///
    /// The session is renewed when it is about to expire, and once when the PDS no longer takes it.
    ///
    /// Errors: `SIGN_IN_AGAIN` without a session; `Upstream` (service `pds` or `oauth`) and `RateLimited` when a host cannot
    /// be asked; `Unavailable` when the store is away.
    pub async fn call(&self, did: &Did, call: &Call) -> Result<Answer> {
        let mut held = self.load(did.as_str()).await?.ok_or_else(sign_in_again)?;
        let now = self.parts().clock.now();
        if held.session.expires_at - EARLY <= now {
            match self.after(did.as_str(), &held.session.access).await {
                Ok(next) => held = next,
                // It is good for some seconds more.
                Err(error @ (Error::Upstream { .. } | Error::RateLimited { .. })) if held.session.expires_at > now => {
                    debug!(%did, error = error.chain(), "a session was not renewed in time");
                }
                Err(error) => return Err(error),
            }
        }
        let answer = self.ask(&mut held, call).await?;
        if !is_stale(&answer) {
            return Ok(answer);
        }
        let mut held = self.after(did.as_str(), &held.session.access).await?;
        self.ask(&mut held, call).await
    }

    /// What the account allows, as its server last said it; none without a session.
    pub async fn scopes(&self, did: &Did) -> Result<Option<String>> {
        Ok(self.load(did.as_str()).await?.map(|held| held.session.scope))
    }

    /// Renews the session of an account now, whether it has to be or not.
    ///
    /// Errors: as [`call`](Self::call).
    pub async fn refresh(&self, did: &Did) -> Result<()> {
        let held = self.load(did.as_str()).await?.ok_or_else(sign_in_again)?;
        self.after(did.as_str(), &held.session.access).await.map(drop)
    }

    /// Forgets the session of an account, and asks its server to do so too. Whether there was one.
    ///
    /// A server that is away is no error: it forgets the session when it expires.
    pub async fn disconnect(&self, did: &Did) -> Result<bool> {
        let Some(session) = self.drop_session(did).await? else { return Ok(false) };
        self.revoke(session).await;
        Ok(true)
    }

    /// Gives tokens back that nobody will use any more, without making anybody wait.
    pub(super) fn revoke_behind(&self, session: Session) {
        let this = self.clone();
        tokio::spawn(async move { this.revoke(session).await });
    }

    async fn revoke(&self, mut session: Session) {
        let outcome = async {
            let server = server::describe(&self.parts().outbound, &self.parts().kv, &session.issuer).await?;
            let Some(endpoint) = server.revoke.clone() else { return Ok(()) };
            let token = session.refresh.clone().unwrap_or_else(|| session.access.clone());
            let fields = [("token", token)];
            let key = session.key.as_deref();
            let form = Form { issuer: &server.issuer, endpoint: &endpoint, key, fields: &fields };
            self.post(&mut session.proofs, &form).await.map(drop)
        };
        if let Err(error) = outcome.await {
            debug!(did = session.did, error = error.chain(), "a session was not revoked at its server");
        }
    }

    async fn ask(&self, held: &mut Held, call: &Call) -> Result<Answer> {
        let session = &held.session;
        let pds = session.pds.clone().ok_or_else(|| Error::bug(anyhow!("a session without a PDS")))?;
        let mut proofs = session.proofs.clone();
        let way = Way { service: SERVICE, ..self.way() };
        let answer = proofs.send(way, Some(&session.access), || call.request(&pds)).await?;
        if proofs.differ(&session.proofs) {
            let session = Session { proofs, ..session.clone() };
            // Only spares the next one a question.
            match self.exchange_for(held, &session).await {
                Ok(Some(kept)) => *held = kept,
                Ok(None) => {}
                Err(error) => debug!(error = error.chain(), "a nonce was not kept"),
            }
        }
        Ok(answer)
    }
}

/// Whether the PDS no longer takes the token.
fn is_stale(answer: &Answer) -> bool {
    answer.status == 401 && challenge(answer).is_some_and(|error| error == "invalid_token")
}
