//! Signing in: from the pushed request to the first tokens.

use std::time::Duration;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use url::{Url, form_urlencoded};

use super::{
    OAuth,
    key::{digest, unguessable},
    proof::Proofs,
    refused::Refusal,
    server::{self, MAX_BODY, SERVICE, Server, upstream},
    session::Session,
    tokens::Tokens,
};
use crate::{
    error::{Error, Result},
    infra::{
        atproto::{
            identity::{Handle, Resolved},
            syntax::Did,
        },
        http::{Answer, Request},
        kv::{Key, Kind},
    },
};

/// How long a person may take.
const LIFE: Duration = Duration::from_mins(10);
const MAX_REQUEST_URI: usize = 2_048;
/// Longest code or state that is looked at.
const MAX_PARAMETER: usize = 4_096;

/// Whom somebody wants to sign in as, or where.
#[derive(Clone, Debug)]
pub enum Target {
    /// This account, which nobody else will do for.
    Account {
        /// The account.
        did: Did,
        /// Its PDS, as its document says.
        pds: Url,
    },
    /// Any account of the server at this origin, a PDS or an authorization server.
    Server(Url),
}

/// A login to begin.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Who.
    pub target: Target,
    /// What the person typed, when it names the account.
    pub hint: Option<&'a str>,
    /// Origin at which the person opened the gateway.
    pub origin: &'a Url,
    /// Scopes to ask for; the later ones when a server does not know the earlier.
    pub scopes: &'a [&'a str],
    /// What the person's browser has to show again at the end.
    pub browser: &'a str,
    /// Told again at the end.
    pub note: &'a str,
}

/// A login that was begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Where to send the person.
    pub redirect: Url,
}

/// What the authorization server sent a person back with.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Which login.
    pub state: &'a str,
    /// Who says so.
    pub issuer: Option<&'a str>,
    /// What it says.
    pub verdict: Verdict<'a>,
    /// What the person's browser shows.
    pub browser: &'a str,
}

/// What an authorization server decided.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// A code for tokens.
    Code(&'a str),
    /// An error.
    Error(&'a str),
}

/// Somebody has signed in; the session is kept.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Who.
    pub did: Did,
    /// The handle, where it is verified.
    pub handle: Option<String>,
    /// The account's PDS.
    pub pds: Url,
    /// What was granted, as the server says it.
    pub scope: String,
    /// The note of [`Wanted`].
    pub note: String,
}

/// A login that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// The note of [`Wanted`], where the login is the one of this browser and this server.
    pub note: Option<String>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, note: None }
    }
}

/// What is posted to an endpoint of an authorization server.
pub(super) struct Form<'a> {
    pub(super) issuer: &'a str,
    pub(super) endpoint: &'a Url,
    /// Id of the key that the session belongs to.
    pub(super) key: Option<&'a str>,
    /// Without those by which the server knows the client.
    pub(super) fields: &'a [(&'static str, String)],
}

/// A login under way; sealed.
#[derive(Serialize, Deserialize)]
struct Pending {
    /// Who must come back; none: anybody of that server.
    account: Option<String>,
    server: Server,
    client: String,
    key: Option<String>,
    callback: String,
    verifier: String,
    proofs: Proofs,
    /// Digest of what the browser has to show.
    browser: String,
    note: String,
}

impl OAuth {
    /// Asks the authorization server of an account, or of a host, for a login.
    ///
    /// Errors: `LOGIN_ADDRESS` where a public client cannot get people back; `Upstream` and `RateLimited` when a server is
    /// away, refuses, or cannot do what the protocol requires; `Unavailable` when nothing can be kept.
    pub async fn start(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let callback = self.client().callback(wanted.origin)?;
        let (issuer, account) = match &wanted.target {
            Target::Account { did, pds } => {
                (server::issuer_of(&self.parts().outbound, pds).await?, Some(did.to_string()))
            }
            Target::Server(url) => (self.issuer_at(url).await?, None),
        };
        let server = server::describe(&self.parts().outbound, &self.parts().kv, &issuer).await?;
        let state = unguessable()?;
        let mut pending = Pending {
            account,
            server,
            client: self.client().id().to_owned(),
            key: self.client().newest_key(),
            callback,
            verifier: unguessable()?,
            proofs: Proofs::new()?,
            browser: digest(wanted.browser.as_bytes()),
            note: wanted.note.to_owned(),
        };
        let uri = self.push(&mut pending, wanted, &state).await?;
        let mut redirect = pending.server.authorize.clone();
        redirect.query_pairs_mut().append_pair("client_id", self.client().id()).append_pair("request_uri", &uri);
        let name = digest(state.as_bytes());
        let text = serde_json::to_vec(&pending).map_err(Error::bug)?;
        let sealed = self.parts().seal.close(&purpose(&name), &text)?;
        self.parts().kv.set(&key(&name), &sealed, LIFE).await?;
        Ok(Begun { redirect })
    }

    /// The issuer at an origin that a person typed: that of a PDS, else the authorization server that it is itself.
    async fn issuer_at(&self, url: &Url) -> Result<String> {
        match server::issuer_of(&self.parts().outbound, url).await {
            Err(Error::Upstream { .. }) => {
                let issuer = server::origin(url);
                server::describe(&self.parts().outbound, &self.parts().kv, &issuer).await.map(|server| server.issuer)
            }
            found => found,
        }
    }

    /// Pushes the request (RFC 9126); returns its URI.
    async fn push(&self, pending: &mut Pending, wanted: &Wanted<'_>, state: &str) -> Result<String> {
        let mut left = wanted.scopes.iter().copied();
        let mut scope = left.next().unwrap_or("atproto");
        loop {
            let mut fields = vec![
                ("response_type", "code".to_owned()),
                ("response_mode", "query".to_owned()),
                ("redirect_uri", pending.callback.clone()),
                ("scope", scope.to_owned()),
                ("state", state.to_owned()),
                ("code_challenge", digest(pending.verifier.as_bytes())),
                ("code_challenge_method", "S256".to_owned()),
            ];
            fields.extend(wanted.hint.map(|hint| ("login_hint", hint.to_owned())));
            let Pending { server, key, proofs, .. } = &mut *pending;
            let form = Form { issuer: &server.issuer, endpoint: &server.par, key: key.as_deref(), fields: &fields };
            let answer = self.post(proofs, &form).await?;
            if Refusal::of(&answer).is_some_and(|refusal| refusal.error == "invalid_scope")
                && let Some(next) = left.next()
            {
                scope = next;
                continue;
            }
            let body = Refusal::unless(&answer, SERVICE, &[200, 201])?;
            let uri = body.get("request_uri").and_then(|uri| uri.as_str());
            let fits =
                |uri: &&str| (1..=MAX_REQUEST_URI).contains(&uri.len()) && uri.bytes().all(|b| b.is_ascii_graphic());
            return uri.filter(fits).map(str::to_owned).ok_or_else(|| upstream(anyhow!("no request_uri")));
        }
    }

    /// Finishes a login: exchanges the code, finds out who it is, and keeps the session in the place of an older one.
    ///
    /// Errors: `LOGIN_UNKNOWN` for a login that was never begun here, is over, or has taken too long; `LOGIN_BROWSER` for
    /// one of another browser; `LOGIN_ISSUER` for an answer of another server; `LOGIN_DECLINED` when the person did not
    /// want to; `LOGIN_ACCOUNT` when somebody else came back; else as [`start`](Self::start). After any of them the
    /// login is over.
    pub async fn complete(&self, answered: &Answered<'_>) -> Result<Completed, Failed> {
        let mut pending = self.take(answered.state).await?;
        let shown = digest(answered.browser.as_bytes());
        if !bool::from(shown.as_bytes().ct_eq(pending.browser.as_bytes())) {
            return Err(Error::invalid("state", "LOGIN_BROWSER", "this login was begun in another browser").into());
        }
        if answered.issuer != Some(pending.server.issuer.as_str()) {
            return Err(Error::invalid("iss", "LOGIN_ISSUER", "another server answered than was asked").into());
        }
        let note = std::mem::take(&mut pending.note);
        match self.finish(pending, answered.verdict).await {
            Ok((tokens, handle, pds)) => Ok(Completed { did: tokens.did, handle, pds, scope: tokens.scope, note }),
            Err(error) => Err(Failed { error, note: Some(note) }),
        }
    }

    /// The tokens, which are kept; the handle, where it is verified; and the PDS.
    async fn finish(&self, mut pending: Pending, verdict: Verdict<'_>) -> Result<(Tokens, Option<String>, Url)> {
        let code = match verdict {
            Verdict::Code(code) if code.len() <= MAX_PARAMETER => code,
            Verdict::Code(_) => return Err(upstream(anyhow!("a code of more than {MAX_PARAMETER} bytes"))),
            Verdict::Error("access_denied") => {
                return Err(Error::invalid("login", "LOGIN_DECLINED", "it was declined"));
            }
            Verdict::Error(error) => return Err(upstream(anyhow!("it refused: {}", super::refused::plain(error)))),
        };
        let tokens = self.exchange(&mut pending, code).await?;
        let vouched = self.vouch(&pending, &tokens).await;
        let session = Session::of(&pending.server, pending.client, pending.key, pending.proofs, &tokens);
        match vouched {
            Ok((resolved, pds)) => {
                self.keep(session.at(pds.clone(), self.parts().clock.now())).await?;
                let handle = match resolved.handle {
                    Handle::Verified(handle) => Some(handle),
                    Handle::Invalid { .. } | Handle::Unknown => None,
                };
                Ok((tokens, handle, pds))
            }
            Err(error) => {
                // Nobody will use these.
                self.revoke_behind(session);
                Err(error)
            }
        }
    }

    /// The login under way with this state, for one taker.
    async fn take(&self, state: &str) -> Result<Pending> {
        let unknown = || {
            let why = "it is over, has taken too long, or was never begun here";
            Error::invalid("state", "LOGIN_UNKNOWN", why)
        };
        if state.len() > MAX_PARAMETER {
            return Err(unknown());
        }
        let name = digest(state.as_bytes());
        let sealed = self.parts().kv.take(&key(&name)).await?.ok_or_else(unknown)?;
        let text = self.parts().seal.open(&purpose(&name), &sealed)?.ok_or_else(unknown)?;
        let pending: Pending = serde_json::from_slice(&text).map_err(|_| unknown())?;
        // Begun before the gateway became another client.
        if pending.client == self.client().id() { Ok(pending) } else { Err(unknown()) }
    }

    async fn exchange(&self, pending: &mut Pending, code: &str) -> Result<Tokens> {
        let fields = [
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", pending.callback.clone()),
            ("code_verifier", pending.verifier.clone()),
        ];
        let asked_at = self.parts().clock.now();
        let Pending { server, key, proofs, .. } = pending;
        let form = Form { issuer: &server.issuer, endpoint: &server.token, key: key.as_deref(), fields: &fields };
        let answer = self.post(proofs, &form).await?;
        let body = Refusal::unless(&answer, SERVICE, &[200])?;
        Tokens::read(&body, asked_at).map_err(upstream)
    }

    /// Whether the server may speak for whom it names: it must be whom we asked for, and their own document must lead back
    /// to this server. Without this any server could sign in as anybody.
    async fn vouch(&self, pending: &Pending, tokens: &Tokens) -> Result<(Resolved, Url)> {
        if pending.account.as_ref().is_some_and(|account| *account != tokens.did.as_str()) {
            return Err(Error::invalid("sub", "LOGIN_ACCOUNT", "somebody else signed in than was asked for"));
        }
        let resolved = self.parts().directory.resolve(&tokens.did).await?;
        let resolved = resolved.ok_or_else(|| upstream(anyhow!("a login for a DID that does not exist")))?;
        let pds = resolved.pds.clone().ok_or_else(|| upstream(anyhow!("a login for a DID without a PDS")))?;
        let issuer = server::issuer_of(&self.parts().outbound, &pds).await?;
        if issuer != pending.server.issuer {
            return Err(upstream(anyhow!("a server that does not speak for the DID which it names")));
        }
        Ok((resolved, pds))
    }

    /// Posts a form to an endpoint of an authorization server, as the client that a session belongs to.
    pub(super) async fn post(&self, proofs: &mut Proofs, form: &Form<'_>) -> Result<Answer> {
        let make = || {
            let client = self.client().authenticate(form.key, form.issuer, self.parts().clock.now())?;
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form.fields.iter().chain(&client).map(|(name, value)| (*name, value.as_str())))
                .finish();
            let request = Request::post(form.endpoint.clone(), "application/x-www-form-urlencoded", body);
            Ok(Request { max_body_bytes: Some(MAX_BODY), ..request })
        };
        proofs.send(self.way(), None, make).await
    }
}

fn key(name: &str) -> Key {
    Key::new(Kind::Once, &purpose(name))
}

fn purpose(name: &str) -> String {
    format!("login:{name}")
}
