//! Where a profile comes from: the AppView, else the PDS, else the identity.

use chrono::TimeDelta;

use super::{
    Profile,
    keep::{FRESH, Kept, MAKESHIFT},
    read,
};
use crate::{
    app::App,
    domain::{
        account::resolve::{Age, resolve, resolve_handle},
        source::bluesky::PROFILE,
    },
    error::{Error, Result},
    infra::atproto::{
        identity::{Handle as Checked, Resolved},
        pds::Repo,
        syntax::{Did, Handle, Nsid, RecordKey},
    },
};

const KEY: &str = "self";

/// The profile of an account, as of now.
///
/// Errors: `Upstream` and `RateLimited` when the AppView is away, and so is whoever else could tell.
pub(super) async fn fetch(app: &App, did: &Did) -> Result<Kept> {
    let seen = match &app.profiles.appview {
        Some(appview) => appview.profile(did.as_str()).await,
        None => Ok(None),
    };
    match seen {
        Ok(Some(seen)) => Ok(keep(app, read::of_appview(seen), None, FRESH)),
        Ok(None) => fetch_without(app, did, None).await,
        Err(away) => fetch_without(app, did, Some(away)).await,
    }
}

/// Whom a handle names, with the profile if that was told along. `None` when it names nobody.
pub(super) async fn fetch_by_handle(app: &App, handle: &Handle) -> Result<Option<(Did, Option<Kept>)>> {
    if let Some(appview) = &app.profiles.appview
        && let Ok(Some(seen)) = appview.profile(handle.as_str()).await
    {
        let did = seen.did.clone();
        return Ok(Some((did, Some(keep(app, read::of_appview(seen), None, FRESH)))));
    }
    let resolved = resolve_handle(app, handle).await?;
    Ok(resolved.and_then(|resolved| Did::parse(&resolved.did).ok()).map(|did| (did, None)))
}

/// Without the AppView: it does not show the account, or is `away`.
async fn fetch_without(app: &App, did: &Did, away: Option<Error>) -> Result<Kept> {
    // Who is not known to anybody else is asked for again soon.
    let lasts = if away.is_some() { MAKESHIFT } else { FRESH };
    let resolved = match resolve(app, did, Age::Shown).await {
        Ok(Some(resolved)) => resolved,
        Ok(None) => return Ok(keep(app, None, None, lasts)),
        Err(error) => return Err(away.unwrap_or(error)),
    };
    let pds = resolved.pds.as_ref().map(ToString::to_string);
    let (profile, lasts) = match at_pds(app, did, &resolved).await {
        Ok(Told::Gone) => (None, lasts),
        Ok(Told::Nothing) => (Some(read::of_identity(did.as_str(), handle_of(&resolved))), lasts),
        Ok(Told::Profile(profile)) => {
            // Whoever has a profile the AppView knows as well, unless it does not want to.
            let is_withheld = match (&app.profiles.appview, &away) {
                (Some(appview), None) => appview.withholds(did).await?,
                _ => false,
            };
            ((!is_withheld).then_some(profile), lasts)
        }
        Err(error) => match away {
            Some(away) => return Err(away),
            None if matches!(error, Error::Upstream { .. } | Error::RateLimited { .. }) => {
                (Some(read::of_identity(did.as_str(), handle_of(&resolved))), MAKESHIFT)
            }
            None => return Err(error),
        },
    };
    let is_makeshift = away.is_some();
    Ok(Kept { is_makeshift, ..keep(app, profile, pds, lasts) })
}

/// What a PDS says.
enum Told {
    /// The account is not active there, or has left.
    Gone,
    /// It has written no profile.
    Nothing,
    Profile(Profile),
}

async fn at_pds(app: &App, did: &Did, resolved: &Resolved) -> Result<Told> {
    let Some(pds) = resolved.pds.clone() else { return Ok(Told::Nothing) };
    let repo = Repo::new(&app.outbound, pds);
    if !repo.status(did).await?.is_some_and(|status| status.active) {
        return Ok(Told::Gone);
    }
    let (collection, key) = (Nsid::parse(PROFILE)?, RecordKey::parse(KEY)?);
    Ok(match repo.get_record(did, &collection, &key).await {
        Ok(Some(record)) => Told::Profile(read::of_record(did.as_str(), handle_of(resolved), &record.json)),
        Ok(None) => Told::Nothing,
        Err(Error::NotFound { .. }) => Told::Gone,
        Err(error) => return Err(error),
    })
}

fn handle_of(resolved: &Resolved) -> Option<String> {
    match &resolved.handle {
        Checked::Verified(handle) => Some(handle.clone()),
        Checked::Invalid { .. } | Checked::Unknown => None,
    }
}

fn keep(app: &App, found: Option<Profile>, pds: Option<String>, lasts: TimeDelta) -> Kept {
    let at = app.clock.now();
    Kept { at, until: at + lasts, found, pds, is_makeshift: false }
}
