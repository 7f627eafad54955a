//! Renewing a session, once for all who wait for it.
//!
//! A refresh token is good for one use, and a server that sees one again ends the session. So whoever renews holds a lock
//! over all processes, reads the session again under it, and writes the next one only in the place of that. The work is not
//! the caller's: it goes on when the caller leaves. When a process dies between the server's answer and the store, the next
//! one is refused by the server, the session ends, and the person signs in again.
//!
//! Before a refresh token is shown to anybody, the DID's document is read again, and must lead to the issuer of the session: an
//! account that has moved to another server takes its sessions with it from nowhere, and one that has moved to another PDS
//! of the same server is asked there from then on. While the directory, or the PDS, cannot say, what it said last counts, for
//! a day; after that nothing is renewed until somebody says it again. The session waits meanwhile.

use std::time::Duration;

use anyhow::anyhow;
use chrono::TimeDelta;
use futures_util::FutureExt;
use metrics::counter;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};
use url::Url;

use super::{
    OAuth,
    login::Form,
    refused::Refusal,
    server::{self, SERVICE, upstream},
    session::{Held, Kept, Session},
    sign_in_again,
    tokens::Tokens,
};
use crate::{
    error::{Error, Result},
    infra::atproto::syntax::Did,
};

/// How long the lock of a process stays that has died. It is renewed by one that lives; one that loses it writes over nobody.
const LOCK: Duration = Duration::from_secs(15);
/// How long one waits for another who renews.
const PATIENCE: Duration = Duration::from_secs(50);
/// How long it is believed where an account is while nobody can say.
const BELIEVED: TimeDelta = TimeDelta::days(1);

impl OAuth {
    /// The session after the one with this access token: another's, or one that is renewed now.
    ///
    /// Errors: `SIGN_IN_AGAIN` when the session is over; `Upstream` and `RateLimited` when the server could not be asked;
    /// `Unavailable` when the store is away: the old session is then still there.
    pub(super) async fn after(&self, did: &str, access: &str) -> Result<Held> {
        let (this, did, access) = (self.clone(), did.to_owned(), access.to_owned());
        tokio::spawn(async move { this.renew_alone(&did, &access).await }).await.map_err(Error::bug)?
    }

    async fn renew_alone(&self, did: &str, access: &str) -> Result<Held> {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = self.load(did).await?.ok_or_else(sign_in_again)?;
            if held.session.access != access {
                return Ok(held);
            }
            if let Some(lock) = self.parts().kv.lock(&format!("oauth:{did}"), LOCK).await? {
                let work = async {
                    // What was read before the lock may be old.
                    let held = self.load(did).await?.ok_or_else(sign_in_again)?;
                    if held.session.access != access {
                        return Ok(held);
                    }
                    counted(self.renew(held.session).boxed().await)
                };
                return lock.throughout(work).await;
            }
            if Instant::now() > until {
                let source = anyhow!("somebody else has been renewing the session for {PATIENCE:?}");
                return Err(Error::Unavailable { service: "lock", source });
            }
            sleep(Duration::from_millis(fastrand::u64(30..120))).await;
        }
    }

    async fn renew(&self, session: Session) -> Result<Held> {
        let session = &self.follow(session).await?;
        let did = session.did.as_str();
        let Some(refresh) = session.refresh.clone().filter(|_| session.client == self.client().id()) else {
            self.end(did, &session.access).await?;
            return Err(sign_in_again());
        };
        let server = server::describe(&self.parts().outbound, &self.parts().kv, &session.issuer).await?;
        let fields = [("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh)];
        let mut proofs = session.proofs.clone();
        let asked_at = self.parts().clock.now();
        let key = session.key.as_deref();
        let form = Form { issuer: &server.issuer, endpoint: &server.token, key, fields: &fields };
        let answer = self.post(&mut proofs, &form).await?;
        if Refusal::of(&answer).is_some_and(|refusal| refusal.error == "invalid_grant") {
            info!(did, "a session has ended at its server");
            self.end(did, &session.access).await?;
            return Err(sign_in_again());
        }
        let body = Refusal::unless(&answer, SERVICE, &[200])?;
        let tokens = Tokens::read(&body, asked_at).map_err(upstream)?;
        if tokens.did.as_str() != did {
            return Err(upstream(anyhow!("renewed tokens are somebody else's")));
        }
        if tokens.scope != session.scope {
            info!(did, before = session.scope, now = tokens.scope, "what an account allows has changed");
        }
        let renewed = session.renewed(proofs, tokens);
        match self.save(&renewed, &session.access).await? {
            Kept::Yes(held) => Ok(held),
            Kept::Overtaken(held) => {
                // Disconnected, or signed in anew meanwhile: these tokens must not outlive that.
                self.revoke_behind(renewed);
                held.ok_or_else(sign_in_again)
            }
        }
    }

    /// The session with the PDS where its account is now; it ends when that is another server's.
    async fn follow(&self, session: Session) -> Result<Session> {
        let now = self.parts().clock.now();
        match self.home(&session.did).await {
            Ok(Some((pds, issuer))) if issuer == session.issuer => Ok(session.still_at(pds, now)),
            Ok(_) => {
                info!(did = session.did, "an account has moved away from the server of its session");
                self.end(&session.did, &session.access).await?;
                self.revoke_behind(session);
                Err(sign_in_again())
            }
            Err(error @ (Error::Upstream { .. } | Error::RateLimited { .. }))
                if now < session.resolved_at + BELIEVED =>
            {
                debug!(
                    did = session.did,
                    error = error.chain(),
                    "nobody can say where an account is; it is believed where it was"
                );
                Ok(session)
            }
            Err(error) => Err(error),
        }
    }

    /// The PDS of an account and the issuer that speaks for it, as they say now.
    async fn home(&self, did: &str) -> Result<Option<(Url, String)>> {
        let Some(pds) = self.parts().directory.pds(&Did::parse(did)?).await? else { return Ok(None) };
        let issuer = server::issuer_of(&self.parts().outbound, &pds).await?;
        Ok(Some((pds, issuer)))
    }
}

fn counted(outcome: Result<Held>) -> Result<Held> {
    let label = match &outcome {
        Ok(_) => "success",
        Err(Error::Invalid { .. }) => "ended",
        Err(Error::Upstream { .. } | Error::RateLimited { .. }) => "upstream",
        Err(_) => "failure",
    };
    counter!("gateway_session_renewals_total", "outcome" => label).increment(1);
    outcome
}
