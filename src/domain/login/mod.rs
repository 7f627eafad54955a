//! Signing in: what a person types, what is asked of their PDS, and what they are allowed afterwards.
//!
//! Promises: a login that begins with a handle or a DID ends as that account or not at all; nobody is sent to a place that
//! is neither ours nor configured; nobody gets an account linked to theirs but by signing in as it in their own browser; a
//! right that was not granted is known to be missing.

mod abilities;
mod count;
mod email;
mod identifier;
mod intent;
mod way_back;

use std::time::Duration;

use entities::user;

use tracing::info;
use url::Url;

use self::count::{Step, count};
pub use self::{
    abilities::{Abilities, Ability},
    intent::{Intent, Linking},
    way_back::WayBack,
};
use crate::{
    app::App,
    domain::{
        account,
        actor::Actor,
        profile,
        session::{self, NewSession, code},
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
    /// What for.
    pub intent: &'a Intent,
}

/// The browser of somebody who comes back.
#[derive(Clone, Copy, Debug)]
pub struct Browser<'a> {
    /// What it calls itself.
    pub agent: Option<&'a str>,
    /// Who is signed in there, by its cookie.
    pub actor: &'a Actor,
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
    /// Where to go now.
    pub arrival: Arrival,
}

/// How somebody goes on who has signed in.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// In the browser.
    Browser {
        /// The gateway's own session.
        session: NewSession,
        /// Where to.
        way_back: WayBack,
        /// The account was linked to the one that they were signed in with.
        is_linked: bool,
    },
    /// In an app: its address, with a code.
    App(Url),
}

/// A login that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// What it was for; unknown where it is not this browser's.
    pub intent: Option<Intent>,
}

impl Failed {
    fn of(failed: oauth::Failed) -> Self {
        let intent = failed.note.and_then(|note| serde_json::from_str(&note).ok());
        Self { error: failed.error, intent }
    }

    /// The address of an app that is told of it: where a person did not want to, and nothing is to be said to them.
    pub fn app(&self, app: &App) -> Option<Url> {
        match &self.intent {
            Some(Intent::Enter(wanted)) if self.error.reason() == "LOGIN_DECLINED" => {
                wanted.way_back_declined(app).ok()
            }
            _ => None,
        }
    }
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
    let note = serde_json::to_string(wanted.intent).map_err(Error::bug)?;
    let hint = matches!(target, Target::Account { .. }).then_some(typed.as_str());
    let asked = oauth::Wanted {
        target,
        hint,
        origin: wanted.origin,
        scopes: &[SCOPE, OLDER_SCOPE],
        browser: wanted.browser,
        note: &note,
    };
    Ok(app.oauth.start(&asked).await?.redirect)
}

/// Finishes a login with what the authorization server answered: the account is found, made or linked, and a session of the
/// gateway is opened, or a code made for an app's.
///
/// Errors: as [`oauth::OAuth::complete`]; those of [`account::sign_in`]; for a link `LINK_SESSION` where the browser is not
/// signed in as it was when the login began, and those of [`account::link`]; for an app those of [`code::issue`].
pub async fn complete(app: &App, answered: &Answered<'_>, browser: Browser<'_>) -> Result<SignedIn, Failed> {
    let completed = finish(app, answered, browser).await;
    count(Step::Finished, completed.as_ref().err().map(|failed| &failed.error));
    completed
}

async fn finish(app: &App, answered: &Answered<'_>, browser: Browser<'_>) -> Result<SignedIn, Failed> {
    let completed = app.oauth.complete(answered).await.map_err(Failed::of)?;
    let read = serde_json::from_str(&completed.note).map_err(Error::bug);
    let intent: Intent = read.map_err(|error| Failed { error, intent: None })?;
    match arrive(app, &completed, &intent, browser).await {
        Ok(signed_in) => Ok(signed_in),
        Err(error) => Err(Failed { error, intent: Some(intent) }),
    }
}

async fn arrive(app: &App, completed: &Completed, intent: &Intent, browser: Browser<'_>) -> Result<SignedIn> {
    let Completed { did, handle, pds, scope, .. } = completed;
    let scopes = scope.split_ascii_whitespace().map(str::to_owned).collect();
    let shown = account::SignedIn { did: did.to_string(), handle: handle.clone(), pds: pds.clone(), scopes };
    let open = async |user: &user::Model| session::open(app, user.id, session::Kind::Cookie, browser.agent).await;
    let here = |way_back: &WayBack| WayBack::check(way_back.as_str(), &app.config.oauth.redirects);
    let (user, arrival) = match intent {
        Intent::Browse(way_back) => {
            let (user, way_back) = (account::sign_in(app, &shown).await?, here(way_back)?);
            let session = open(&user).await?;
            (user, Arrival::Browser { session, way_back, is_linked: false })
        }
        Intent::Enter(wanted) => {
            let user = account::sign_in(app, &shown).await?;
            let code = code::issue(app, user.id, wanted).await?;
            (user, Arrival::App(wanted.way_back(app, &code)?))
        }
        Intent::Link(linking) => {
            let user = link(app, linking, &shown, (did, browser.actor)).await?;
            // Whoever knew the session before does not get what it opens from now on.
            let (session, way_back) = (open(&user).await?, here(&linking.way_back)?);
            session::revoke(app, user.id, linking.session).await?;
            (user, Arrival::Browser { session, way_back, is_linked: true })
        }
    };
    let abilities = Abilities::of(scope);
    info!(%did, missing = ?abilities.missing(), "somebody has signed in");
    if abilities.has_email {
        email::fill(app, did, &user).await;
    }
    // Most people change their profile elsewhere, and look at it here when they come back.
    profile::renew(app, did);
    Ok(SignedIn { did: did.clone(), handle: handle.clone(), abilities, arrival })
}

/// Links the account to the member's, or gives back what it allows, unless it is linked to somebody's.
async fn link(
    app: &App,
    linking: &Linking,
    shown: &account::SignedIn,
    (did, actor): (&Did, &Actor),
) -> Result<user::Model> {
    let linked = async {
        let person = linking.confirmed(actor)?;
        account::link(&app.of(person.tenant), person.user, shown).await
    };
    match linked.await {
        Ok(claimed) => Ok(claimed.user),
        Err(error) => {
            if !account::is_linked(app, did.as_str()).await? {
                app.oauth.disconnect(did).await?;
            }
            Err(error)
        }
    }
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
