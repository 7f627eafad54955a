//! Whom a DID belongs to, for those who cannot wait for the next round of [`lookup`].
//!
//! What is known of an account is its row, for 24 hours (`identity.refresh_hours`), unless the network has said that
//! something changed: then it is due, and asked for again. Of accounts that have no row nobody tells us changes, so that they
//! are believed for ten minutes only. Keys are not kept: who checks a signature asks the directory itself.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use entities::{identity, sets::HandleStatus};
use sea_orm::EntityTrait;
use serde::{Deserialize, Serialize};
use tracing::debug;
use url::Url;

use super::lookup;
use crate::{
    app::App,
    error::{Error, Result},
    infra::atproto::{
        identity::{Handle, Resolved},
        syntax::{self, Did},
    },
};

/// How long an account without a row is believed.
const STRANGERS: Duration = Duration::from_mins(10);
/// How old what somebody is let in by may be: less than the ten minutes of the protocol.
const LOGIN: TimeDelta = TimeDelta::minutes(5);

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// For what is shown: a day, and older while the directory is away.
    Shown,
    /// For who is let in: minutes, and an error while the directory is away.
    Login,
}

/// Who is behind a DID; `None` when it does not exist.
///
/// Errors: as those of [`Directory::resolve`](crate::infra::atproto::identity::Directory::resolve), where nothing is known that is
/// young enough.
pub async fn resolve(app: &App, did: &Did, age: Age) -> Result<Option<Resolved>> {
    let held = identity::Entity::find_by_id(did.as_str()).one(app.db.read()).await?;
    let Some(held) = held else {
        return match age {
            Age::Login => app.directory.resolve(did).await,
            Age::Shown => stranger(app, did).await,
        };
    };
    let now = app.clock.now();
    let limit = match age {
        Age::Shown => TimeDelta::from_std(app.config.identity.refresh()).unwrap_or(TimeDelta::days(1)),
        Age::Login => LOGIN,
    };
    let is_young = held.checked_at.is_some_and(|at| now - at < limit) && held.next_check_at > now;
    if is_young {
        return Ok(Some(known(&held)));
    }
    match app.directory.resolve(did).await {
        Ok(resolved) => {
            lookup::store(app, &held, resolved.clone()).await?;
            Ok(resolved)
        }
        // What was known stays: a failure hides nothing.
        Err(error @ (Error::Upstream { .. } | Error::RateLimited { .. }))
            if age == Age::Shown && held.checked_at.is_some() =>
        {
            debug!(%did, error = error.chain(), "the directory is away; what was known stays");
            Ok(Some(known(&held)))
        }
        Err(error) => Err(error),
    }
}

/// Whom a handle names and who claims it in return, as of now; `None` when it names nobody, or somebody who does not claim it.
///
/// Errors: `Upstream` when the domain or the directory could not be asked.
pub async fn resolve_handle(app: &App, handle: &syntax::Handle) -> Result<Option<Resolved>> {
    let Some(did) = app.directory.resolve_handle(handle).await? else { return Ok(None) };
    let Some(resolved) = app.directory.resolve(&did).await? else { return Ok(None) };
    let wanted = handle.to_lowercase().into_string();
    match &resolved.handle {
        Handle::Verified(verified) => Ok((*verified == wanted).then_some(resolved)),
        Handle::Invalid { .. } => Ok(None),
        Handle::Unknown => Err(Error::upstream("handle", anyhow::anyhow!("{wanted} could not be checked"))),
    }
}

fn known(held: &identity::Model) -> Resolved {
    let handle = match (held.handle_status, held.handle.clone()) {
        (HandleStatus::Verified, Some(handle)) => Handle::Verified(handle),
        (HandleStatus::Unknown, _) => Handle::Unknown,
        (_, claimed) => Handle::Invalid { claimed },
    };
    let pds = held.pds.as_deref().and_then(|pds| Url::parse(pds).ok());
    Resolved { did: held.did.clone(), handle, pds, signing_key: None }
}

/// What is kept of somebody who has no row.
#[derive(Serialize, Deserialize)]
struct Stranger {
    handle: Option<String>,
    pds: Option<String>,
}

async fn stranger(app: &App, did: &Did) -> Result<Option<Resolved>> {
    let ask = async {
        let found = app.directory.resolve(did).await?.map(|resolved| Stranger {
            handle: match resolved.handle {
                Handle::Verified(handle) => Some(handle),
                Handle::Invalid { .. } | Handle::Unknown => None,
            },
            pds: resolved.pds.map(Into::into),
        });
        Ok(Bytes::from(serde_json::to_vec(&found).map_err(Error::bug)?))
    };
    let kept = app.kv.cached(&format!("identity:{did}"), STRANGERS, ask).await?;
    let found: Option<Stranger> = serde_json::from_slice(&kept).map_err(Error::bug)?;
    Ok(found.map(|found| Resolved {
        did: did.to_string(),
        handle: found.handle.map_or(Handle::Invalid { claimed: None }, Handle::Verified),
        pds: found.pds.and_then(|pds| Url::parse(&pds).ok()),
        signing_key: None,
    }))
}
