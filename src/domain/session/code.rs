//! How an app gets its session: with a code that its address is called with after the sign-in, which opens nothing by itself.
//!
//! For apps on phones and pages of other hosts, which get no cookie. The address is one of those configured, letter by letter,
//! so that nobody else is ever sent a code; a code lives for minutes and is used up by the first attempt, a failed one too;
//! and only whoever began the sign-in knows what its challenge was made from (PKCE, RFC 7636, with S256 alone).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use super::{Kind, NewSession, open};
use crate::{
    app::App,
    domain::secret,
    error::{Error, Result},
    infra::kv::{self, Key},
};

/// How long a code may be used: somebody may read first what they did not allow.
const LIFE: Duration = Duration::from_mins(5);
/// Longest state of an app.
const MAX_STATE: usize = 2_048;
/// What every code begins with.
const MARK: &str = "omc_";

/// What an app asks for when it begins a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wanted {
    /// The app's own address, which is called with the code.
    pub redirect_uri: String,
    /// Base64url of the SHA-256 of what the app keeps to itself.
    pub challenge: String,
    /// How the challenge was made: `S256`.
    pub method: String,
    /// Told again with the code, so that the app recognises its own sign-in.
    pub state: Option<String>,
}

impl Wanted {
    /// Whether it may be asked for. To be called before anything else is done for it.
    ///
    /// Errors: `REDIRECT_REFUSED` for an address that is not configured, `CHALLENGE_INVALID`, `STATE_TOO_LONG`.
    pub fn check(&self, app: &App) -> Result<()> {
        if !app.config.session.redirects.contains(&self.redirect_uri) {
            let why = "it is none of the addresses in session.redirects, letter by letter";
            return Err(Error::invalid("redirectUri", "REDIRECT_REFUSED", why));
        }
        let is_digest = BASE64URL_NOPAD.decode(self.challenge.as_bytes()).is_ok_and(|digest| digest.len() == 32);
        if self.method != "S256" || !is_digest {
            let why = "expected the method S256 and the unpadded base64url of a SHA-256";
            return Err(Error::invalid("codeChallenge", "CHALLENGE_INVALID", why));
        }
        if self.state.as_ref().is_some_and(|state| state.len() > MAX_STATE) {
            return Err(Error::invalid("state", "STATE_TOO_LONG", format!("expected at most {MAX_STATE} bytes")));
        }
        Ok(())
    }

    /// The app's address with the code.
    ///
    /// Errors: those of [`check`](Self::check).
    pub fn way_back(&self, app: &App, code: &str) -> Result<Url> {
        self.called_with(app, ("code", code))
    }

    /// The app's address with the error of OAuth for a person who did not want to.
    ///
    /// Errors: those of [`check`](Self::check).
    pub fn way_back_declined(&self, app: &App) -> Result<Url> {
        self.called_with(app, ("error", "access_denied"))
    }

    fn called_with(&self, app: &App, (name, value): (&str, &str)) -> Result<Url> {
        self.check(app)?;
        let refused = |_| Error::invalid("redirectUri", "REDIRECT_REFUSED", "it is no address");
        let mut url = Url::parse(&self.redirect_uri).map_err(refused)?;
        let state = self.state.as_deref().map(|state| ("state", state));
        url.query_pairs_mut().append_pair(name, value).extend_pairs(state);
        Ok(url)
    }
}

/// What is kept of a code.
#[derive(Deserialize, Serialize)]
struct Kept {
    hash: Vec<u8>,
    user: i64,
    redirect_uri: String,
    challenge: String,
    /// By the clock of all processes; the store, which forgets it about then, may have another.
    expires_at: DateTime<Utc>,
}

/// A code for a member who has just signed in.
///
/// Errors: those of [`Wanted::check`]; `Unavailable` while what is shared is away.
pub async fn issue(app: &App, user_id: i64, wanted: &Wanted) -> Result<String> {
    wanted.check(app)?;
    let made = secret::new(MARK)?;
    let Wanted { redirect_uri, challenge, .. } = wanted.clone();
    let expires_at = app.clock.now() + TimeDelta::from_std(LIFE).map_err(Error::bug)?;
    let kept = Kept { hash: made.hash, user: user_id, redirect_uri, challenge, expires_at };
    let kept = serde_json::to_vec(&kept).map_err(Error::bug)?;
    app.kv.set(&place(&made.prefix), &kept, LIFE).await?;
    Ok(made.text)
}

/// The session that a code stands for. Whatever comes of it, the code is used up.
///
/// Errors: `CODE_INVALID` for a code that was used, is too old or was never handed out, and for an address or a verifier
/// that are not those of its sign-in; which of them it was is told nobody.
pub async fn exchange(
    app: &App,
    code: &str,
    redirect_uri: &str,
    verifier: &str,
    user_agent: Option<&str>,
) -> Result<NewSession> {
    let refused = || Error::invalid("code", "CODE_INVALID", "it was used, is too old, or is somebody else's");
    let prefix = secret::prefix_of(MARK, code).ok_or_else(refused)?;
    let kept = app.kv.take(&place(&prefix)).await?.ok_or_else(refused)?;
    let kept: Kept = serde_json::from_slice(&kept).map_err(Error::bug)?;
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    let is_verifier =
        (43..=128).contains(&verifier.len()) && challenge.as_bytes().ct_eq(kept.challenge.as_bytes()).into();
    let is_over = kept.expires_at <= app.clock.now();
    if !secret::is(code, &kept.hash) || kept.redirect_uri != redirect_uri || !is_verifier || is_over {
        return Err(refused());
    }
    open(app, kept.user, Kind::Bearer, user_agent).await
}

fn place(prefix: &str) -> Key {
    Key::new(kv::Kind::Once, &format!("code:{prefix}"))
}
