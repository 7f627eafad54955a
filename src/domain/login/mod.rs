//! Signing in: what a person types, what is asked of their PDS, and what they are allowed afterwards.
//!
//! Promises: a login that begins with a handle or a DID ends as that account or not at all; nobody is sent to a place that
//! is neither ours nor configured; a right that was not granted is known to be missing.

mod abilities;
mod count;
mod identifier;
mod way_back;

use std::time::Duration;

use tracing::info;
use url::Url;

use self::count::{Step, count};
pub use self::{
    abilities::{Abilities, Ability},
    way_back::WayBack,
};
use crate::{
    app::App,
    domain::{
        account, profile,
        session::{self, NewSession},
    },
    error::{Error, Result},
    infra::{
        atproto::{
            oauth::{self, Answered, Completed, Target},
            syntax::Did,
        },
        kv::Limit,
    },
};

/// What is asked for: to write events and answers, to upload images, and to read the address, which may be declined.
pub const SCOPE: &str = "atproto repo?collection=community.lexicon.calendar.event\
                         &collection=community.lexicon.calendar.rsvp blob:image/* account:email";
/// What is asked for at servers that do not know such scopes. No server lists those that it knows, so it is tried.
pub const OLDER_SCOPE: &str = "atproto transition:generic transition:email";
/// Everything that is ever asked for, as the client's metadata say it.
pub const EVERY_SCOPE: &str = "atproto repo?collection=community.lexicon.calendar.event\
                               &collection=community.lexicon.calendar.rsvp blob:image/* account:email \
                               transition:generic transition:email";

/// Longest text that is looked at.
const MAX_TYPED: usize = 2_100;

/// How often logins may be begun that name the same: each asks foreign hosts.
const BEGUN: Limit = Limit { count: 60, per: Duration::from_mins(5) };

/// A login that a person begins.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// A handle, a DID, or the host of a PDS.
    pub typed: &'a str,
    /// Origin at which the person opened the gateway.
    pub origin: &'a Url,
    /// Known to the person's browser alone, which has to show it again.
    pub browser: &'a str,
    /// Where to go at the end.
    pub way_back: &'a WayBack,
}

/// Somebody who has signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who.
    pub did: Did,
    /// The handle, where it is verified.
    pub handle: Option<String>,
    /// What the account allows us.
    pub abilities: Abilities,
    /// The gateway's own session, for the browser.
    pub session: NewSession,
    /// Where to go now.
    pub way_back: WayBack,
}

/// Finds out who is meant, and asks their authorization server; returns where to send the person.
///
/// Errors: `RateLimited` when the same was asked too often, `LOGIN_IDENTIFIER` for what names nobody, `HANDLE_UNKNOWN`, `HANDLE_UNCONFIRMED`, `DID_UNKNOWN`, `PDS_UNKNOWN`; else
/// as [`oauth::OAuth::start`].
pub async fn begin(app: &App, wanted: &Wanted<'_>) -> Result<Url> {
    let begun = ask(app, wanted).await;
    count(Step::Begun, begun.as_ref().err());
    begun
}

async fn ask(app: &App, wanted: &Wanted<'_>) -> Result<Url> {
    let typed = identifier::clean(wanted.typed);
    if typed.is_empty() || typed.len() > MAX_TYPED {
        return Err(Error::invalid("identifier", "LOGIN_IDENTIFIER", "it is no handle, no DID and no host"));
    }
    let rate = app.kv.rate(&format!("login:{}", typed.to_ascii_lowercase()), BEGUN, 1).await?;
    if !rate.is_allowed {
        return Err(Error::RateLimited { retry_after: rate.retry_after });
    }
    let target = identifier::find(app, &typed).await?;
    let hint = matches!(target, Target::Account { .. }).then_some(typed.as_str());
    let asked = oauth::Wanted {
        target,
        hint,
        origin: wanted.origin,
        scopes: &[SCOPE, OLDER_SCOPE],
        browser: wanted.browser,
        note: wanted.way_back.as_str(),
    };
    Ok(app.oauth.start(&asked).await?.redirect)
}

/// Finishes a login with what the authorization server answered: the account is found or made, and a session of the gateway
/// is opened. `agent` is what the browser calls itself.
///
/// Errors: as [`oauth::OAuth::complete`].
pub async fn complete(app: &App, answered: &Answered<'_>, agent: Option<&str>) -> Result<SignedIn> {
    let completed = finish(app, answered, agent).await;
    count(Step::Finished, completed.as_ref().err());
    completed
}

async fn finish(app: &App, answered: &Answered<'_>, agent: Option<&str>) -> Result<SignedIn> {
    let Completed { did, handle, pds, scope, note } = app.oauth.complete(answered).await?;
    let scopes = scope.split_ascii_whitespace().map(str::to_owned).collect();
    let shown = account::SignedIn { did: did.to_string(), handle: handle.clone(), pds, scopes };
    let user = account::sign_in(app, &shown).await?;
    let session = session::open(app, user.id, session::Kind::Cookie, agent).await?;
    let abilities = Abilities::of(&scope);
    info!(%did, missing = ?abilities.missing(), "somebody has signed in");
    // Most people change their profile elsewhere, and look at it here when they come back.
    profile::renew(app, &did);
    let way_back = WayBack::check(&note, &app.config.oauth.redirects)?;
    Ok(SignedIn { did, handle, abilities, session, way_back })
}

/// What an account allows us now; nothing without a session.
pub async fn abilities(app: &App, did: &Did) -> Result<Abilities> {
    Ok(granted(app, did).await?.unwrap_or_default())
}

/// What an account allows us now; `None` where there is no session at its PDS.
pub async fn granted(app: &App, did: &Did) -> Result<Option<Abilities>> {
    Ok(app.oauth.scopes(did).await?.as_deref().map(Abilities::of))
}

/// Ends our session at an account's PDS. Whether there was one.
pub async fn disconnect(app: &App, did: &Did) -> Result<bool> {
    app.oauth.disconnect(did).await
}
