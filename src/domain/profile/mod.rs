//! Profiles of the network: what anybody may know of a person, whether or not that person has ever used OpenMeet.
//!
//! They are read at the AppView; where it does not know somebody, or is away, at the person's PDS; and where nothing is written
//! there, the identity alone is the profile. [`Source`] says which it was: what a source cannot know is `None`.
//!
//! A profile is fresh for ten minutes. Then it is still shown, for a day, while it is fetched anew behind the reader's back,
//! and so is one that is older than what is known of its identity, which is looked at again when the streams tell of a new
//! profile record. Those of members are fetched anew then and there, and at sign-in; their pictures are noted in the members'
//! links. While the AppView is away, what it said before is better than what the
//! PDS says now.
//!
//! Whatever the source, an account that is not active on the network, or that moderators of the AppView took down or hid, has no
//! profile; and one that asks not to be shown to people who are not logged in has no details for [`Actor::Anonymous`]. Pictures
//! are shown from their addresses at the AppView only, since a PDS is not meant to serve pages.

mod fetch;
mod keep;
mod read;

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use entities::{
    identity,
    preferences::Bluesky,
    sets::{AccountStatus, HandleStatus},
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use self::keep::{Kept, kept};
pub use self::keep::{Profiles, follow, renew};
use super::{
    account::{self, Account},
    actor::Actor,
};
use crate::{
    app::App,
    error::Result,
    infra::atproto::{
        appview,
        syntax::{Did, Handle},
    },
};

/// Most accounts of one question.
pub const MOST: usize = appview::MOST;

/// Where a profile comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The AppView: everything is known.
    AppView,
    /// The record at the PDS: no counts, no pictures.
    Pds,
    /// The DID document: nobody has written a profile, or nobody could be asked for it.
    Identity,
}

/// What anybody may know of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Whose it is.
    pub did: String,
    /// The verified handle, lower case.
    pub handle: Option<String>,
    /// Name to show, one line.
    pub display_name: Option<String>,
    /// Biography.
    pub description: Option<String>,
    /// https address of the picture.
    pub avatar_url: Option<String>,
    /// https address of the picture behind the page.
    pub banner_url: Option<String>,
    /// How many accounts follow it.
    pub followers: Option<u32>,
    /// How many accounts it follows.
    pub follows: Option<u32>,
    /// How many posts it has written.
    pub posts: Option<u32>,
    /// Where it comes from.
    pub source: Source,
    /// The person asks that it is not shown to people who are not logged in.
    pub is_reserved: bool,
}

/// A profile as one caller sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is shown of it.
    pub profile: Profile,
    /// Origin of the person's PDS, where it is known.
    pub pds: Option<String>,
    /// Details are left out, because the person does not show them to this caller.
    pub is_restricted: bool,
    /// When it was fetched.
    pub fetched_at: DateTime<Utc>,
    /// It is older than it should be, and is being fetched anew.
    pub is_stale: bool,
    /// The person's account in the tenant, shadow or member.
    pub account: Option<Arc<Account>>,
}

impl Shown {
    /// The link of the member behind the profile; `None` for who is no member.
    pub fn link(&self) -> Option<&Bluesky> {
        let member = self.account.as_ref().filter(|account| !account.user.is_shadow_account)?;
        member.user.preferences_bluesky.as_ref()
    }
}

/// The profiles of accounts, in the order asked for; `None` for who does not exist or is not shown. Each fails for itself:
/// `Upstream` or `RateLimited` when everybody who could tell is away and nothing is kept.
///
/// An error of the whole is one of our own system.
pub async fn find(app: &App, viewer: &Actor, actors: &[account::Actor]) -> Result<Vec<Result<Option<Shown>>>> {
    let handles = actors.iter().filter_map(|actor| match actor {
        account::Actor::Handle(handle) => Some(handle.clone()),
        account::Actor::Did(_) => None,
    });
    let named = account::dids_by_handle(app.db.read(), handles.collect()).await?;
    let found = join_all(actors.iter().map(|actor| look(app, actor, &named))).await;
    let dids = found.iter().filter_map(|kept| Some(kept.as_ref().ok()?.as_ref()?.0.to_string()));
    let known = account::by_dids(app.db.read(), app.tenant, dids.collect()).await?;
    Ok(found
        .into_iter()
        .map(|kept| {
            Ok(kept?.and_then(|(did, kept)| {
                let known = known.get(did.as_str());
                let identity = known.and_then(|known| known.identity.as_ref());
                show(app, viewer, (&did, kept), identity, known.and_then(|known| known.account.clone()))
            }))
        })
        .collect())
}

/// The profile of an account of the tenant; as [`find`], without asking the database.
pub async fn of(app: &App, viewer: &Actor, account: &Arc<Account>) -> Result<Option<Shown>> {
    let Some(did) = account.user.did.as_deref().and_then(|did| Did::parse(did).ok()) else { return Ok(None) };
    if account.identity.as_ref().is_some_and(is_gone) {
        return Ok(None);
    }
    let kept = kept(app, &did).await?;
    Ok(show(app, viewer, (&did, kept), account.identity.as_ref(), Some(Arc::clone(account))))
}

async fn look(app: &App, actor: &account::Actor, named: &HashMap<String, String>) -> Result<Option<(Did, Kept)>> {
    let did = match actor {
        account::Actor::Did(did) => Did::parse(did).ok(),
        account::Actor::Handle(handle) => match named.get(handle) {
            Some(did) => Did::parse(did).ok(),
            None => match Handle::parse(handle) {
                Ok(handle) => keep::did_of(app, &handle).await?,
                Err(_) => None,
            },
        },
    };
    match did {
        Some(did) => Ok(Some((did.clone(), kept(app, &did).await?))),
        None => Ok(None),
    }
}

fn is_gone(identity: &identity::Model) -> bool {
    identity.account_status != AccountStatus::Active
}

/// What this caller sees of what is kept.
fn show(
    app: &App,
    viewer: &Actor,
    (did, kept): (&Did, Kept),
    identity: Option<&identity::Model>,
    account: Option<Arc<Account>>,
) -> Option<Shown> {
    if identity.is_some_and(is_gone) {
        return None;
    }
    let is_outdated = identity.is_some_and(|identity| identity.updated_at > kept.at);
    let is_stale = is_outdated || kept.until <= app.clock.now();
    if is_stale {
        renew(app, did);
    }
    let mut profile = kept.found?;
    // What the tables know was checked by ourselves, and is told at once when it changes.
    match identity.map(|identity| (identity.handle_status, &identity.handle)) {
        Some((HandleStatus::Verified, handle)) => profile.handle.clone_from(handle),
        Some((HandleStatus::Invalid, _)) => profile.handle = None,
        Some((HandleStatus::Unknown, _)) | None => {}
    }
    let is_restricted = profile.is_reserved && matches!(viewer, Actor::Anonymous);
    if is_restricted {
        profile = Profile {
            display_name: None,
            description: None,
            avatar_url: None,
            banner_url: None,
            followers: None,
            follows: None,
            posts: None,
            ..profile
        };
    }
    let pds = identity.and_then(|identity| identity.pds.clone()).or(kept.pds);
    Some(Shown { profile, pds, is_restricted, fetched_at: kept.at, is_stale, account })
}
