//! Sessions at PDSes, as they are kept: sealed, under `bluesky:session:{did}`, for as long as they can live.
//!
//! A session is written only in the place of the one that was read, so that nobody who was slow writes over a newer one.

use std::{collections::HashMap, sync::PoisonError, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use url::Url;

use super::{
    OAuth,
    proof::Proofs,
    server::{Server, text_or_none},
    tokens::Tokens,
};
use crate::{
    error::{Error, Result},
    infra::{
        atproto::syntax::Did,
        kv::{Key, Kind},
    },
};

/// Without a use, and for public clients in all, as the protocol bounds it.
const CONFIDENTIAL: TimeDelta = TimeDelta::days(180);
const PUBLIC: TimeDelta = TimeDelta::days(14);
/// Renewed sessions that are held in memory while the store is away.
const MOST_UNSAVED: usize = 10_000;
/// How long, and how often, it is tried to keep a renewed session before the caller is told.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// A session of one account.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) did: String,
    /// None before it is known who it is.
    #[serde(with = "text_or_none")]
    pub(super) pds: Option<Url>,
    pub(super) issuer: String,
    /// Id of the client, and of its key, that it belongs to for life.
    pub(super) client: String,
    pub(super) key: Option<String>,
    pub(super) proofs: Proofs,
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) scope: String,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) signed_in_at: DateTime<Utc>,
    /// When the DID's own document led to this issuer last.
    #[serde(default)]
    pub(super) resolved_at: DateTime<Utc>,
}

/// A session with the value that holds it.
pub(super) struct Held {
    pub(super) session: Session,
    sealed: Bytes,
}

/// A session that was renewed and could not be kept.
#[derive(Clone)]
pub(super) struct Unsaved {
    session: Session,
    /// Access token of the session that it comes after.
    after: String,
}

/// What became of a session that was to be kept.
pub(super) enum Kept {
    /// It is kept.
    Yes(Held),
    /// Another one is there, or none: the account signed in anew, or was disconnected.
    Overtaken(Option<Held>),
}

impl Session {
    pub(super) fn of(server: &Server, client: String, key: Option<String>, proofs: Proofs, tokens: &Tokens) -> Self {
        Self {
            did: tokens.did.to_string(),
            pds: None,
            issuer: server.issuer.clone(),
            client,
            key,
            proofs,
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            scope: tokens.scope.clone(),
            expires_at: tokens.expires_at,
            signed_in_at: tokens.expires_at,
            resolved_at: DateTime::default(),
        }
    }

    pub(super) fn at(self, pds: Url, now: DateTime<Utc>) -> Self {
        Self { signed_in_at: now, ..self.still_at(pds, now) }
    }

    /// The same session, whose account is at this PDS now.
    pub(super) fn still_at(self, pds: Url, now: DateTime<Utc>) -> Self {
        Self { pds: Some(pds), resolved_at: now, ..self }
    }

    /// The same session with its next tokens.
    pub(super) fn renewed(&self, proofs: Proofs, tokens: Tokens) -> Self {
        Self {
            proofs,
            access: tokens.access,
            refresh: tokens.refresh.or_else(|| self.refresh.clone()),
            scope: tokens.scope,
            expires_at: tokens.expires_at,
            ..self.clone()
        }
    }
}

impl OAuth {
    /// The session of an account, where there is one that opens.
    pub(super) async fn load(&self, did: &str) -> Result<Option<Held>> {
        let unsaved = self.unsaved().get(did).cloned();
        if let Some(unsaved) = unsaved {
            let kept = self.replace(&unsaved.session, &unsaved.after).await?;
            self.unsaved().remove(did);
            return Ok(match kept {
                Kept::Yes(held) => Some(held),
                Kept::Overtaken(held) => {
                    self.revoke_behind(unsaved.session);
                    held
                }
            });
        }
        self.read(did).await
    }

    async fn read(&self, did: &str) -> Result<Option<Held>> {
        let Some(sealed) = self.parts().kv.get(&key(did)).await? else { return Ok(None) };
        let Some(text) = self.parts().seal.open(&purpose(did), &sealed)? else {
            warn!(did, "a session does not open; its key may have been taken away");
            return Ok(None);
        };
        // Of a form that was never written, or is no longer: as good as none.
        let session = serde_json::from_slice::<Session>(&text).ok().filter(|session| session.did == did);
        Ok(session.map(|session| Held { session, sealed }))
    }

    /// Keeps a new session, and gives back the tokens of an older one.
    pub(super) async fn keep(&self, session: Session) -> Result<()> {
        let before = self.read(&session.did).await?;
        let sealed = self.seal(&session)?;
        self.parts().kv.set(&key(&session.did), &sealed, self.life(&session)).await?;
        self.unsaved().remove(&session.did);
        if let Some(before) = before {
            self.revoke_behind(before.session);
        }
        Ok(())
    }

    /// Keeps a renewed session in the place of the one whose access token is `after`.
    ///
    /// When the store is away for longer than some seconds, the error is told, and this process holds the session until it
    /// can be kept: the older one, whose tokens are spent, stays in the store.
    pub(super) async fn save(&self, session: &Session, after: &str) -> Result<Kept> {
        let mut pauses = PAUSES.iter();
        loop {
            match self.replace(session, after).await {
                Ok(kept) => {
                    self.unsaved().remove(&session.did);
                    return Ok(kept);
                }
                Err(error) => {
                    if let Some(pause) = pauses.next() {
                        debug!(did = session.did, error = error.chain(), "a renewed session was not kept yet");
                        tokio::time::sleep(*pause).await;
                        continue;
                    }
                    warn!(did = session.did, error = error.chain(), "a renewed session could not be kept");
                    let mut unsaved = self.unsaved();
                    if unsaved.len() < MOST_UNSAVED {
                        let held = Unsaved { session: session.clone(), after: after.to_owned() };
                        unsaved.insert(session.did.clone(), held);
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn replace(&self, session: &Session, after: &str) -> Result<Kept> {
        loop {
            let Some(held) = self.read(&session.did).await? else { return Ok(Kept::Overtaken(None)) };
            // Kept already, by an attempt whose answer was lost.
            if held.session.access == session.access {
                return Ok(Kept::Yes(held));
            }
            if held.session.access != after {
                return Ok(Kept::Overtaken(Some(held)));
            }
            if let Some(held) = self.exchange_for(&held, session).await? {
                return Ok(Kept::Yes(held));
            }
        }
    }

    /// Puts a session in the place of one that was read, unless something else is there now.
    pub(super) async fn exchange_for(&self, held: &Held, session: &Session) -> Result<Option<Held>> {
        let sealed = Bytes::from(self.seal(session)?);
        let (key, life) = (key(&session.did), self.life(session));
        let is_kept = self.parts().kv.compare_and_set(&key, Some(&held.sealed), &sealed, life).await?;
        Ok(is_kept.then(|| Held { session: session.clone(), sealed }))
    }

    /// Ends a session whose access token is this one.
    pub(super) async fn end(&self, did: &str, access: &str) -> Result<()> {
        while let Some(held) = self.read(did).await?.filter(|held| held.session.access == access) {
            // There is no deletion under a condition; this value opens for nobody, and is gone at once.
            let life = Duration::from_millis(1);
            if self.parts().kv.compare_and_set(&key(did), Some(&held.sealed), b"", life).await? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a session away, also one that was not kept yet.
    pub(super) async fn drop_session(&self, did: &Did) -> Result<Option<Session>> {
        let unsaved = self.unsaved().remove(did.as_str());
        let held = self.read(did.as_str()).await?;
        self.parts().kv.delete(&key(did.as_str())).await?;
        Ok(unsaved.map(|unsaved| unsaved.session).or(held.map(|held| held.session)))
    }

    fn seal(&self, session: &Session) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(session).map_err(Error::bug)?;
        self.parts().seal.close(&purpose(&session.did), &text)
    }

    fn life(&self, session: &Session) -> Duration {
        let now = self.parts().clock.now();
        let left = if self.client().is_confidential() { CONFIDENTIAL } else { session.signed_in_at + PUBLIC - now };
        left.to_std().unwrap_or_default()
    }

    fn unsaved(&self) -> std::sync::MutexGuard<'_, HashMap<String, Unsaved>> {
        self.0.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(did: &str) -> Key {
    Key::new(Kind::Bluesky, did)
}

fn purpose(did: &str) -> String {
    format!("bluesky:session:{did}")
}
