//! What is kept of profiles, for how long, and who fetches them anew.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::join_all};
use metrics::counter;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::{Profile, Source, fetch};
use crate::{
    app::App,
    domain::{account, tenant::Tenant},
    error::{Error, Result},
    infra::atproto::{
        appview::AppView,
        syntax::{Did, Handle},
    },
};

/// How long a profile is shown before it is fetched anew.
pub(super) const FRESH: TimeDelta = TimeDelta::minutes(10);
/// The same for one that had to be made without the AppView, which may be back any moment.
pub(super) const MAKESHIFT: TimeDelta = TimeDelta::minutes(1);
/// How long it is shown while it cannot be fetched.
const LONGEST: Duration = Duration::from_hours(24);
/// How long it is believed whom a handle names, or that it names nobody.
const NAMES: Duration = Duration::from_mins(5);

/// Who is asked for profiles, and which of them are on their way. Cheap to clone.
#[derive(Clone)]
pub struct Profiles {
    /// Where public profiles are; `None` where they are read from their PDSes.
    pub(super) appview: Option<AppView>,
    renewed: Arc<Mutex<HashSet<String>>>,
}

impl Profiles {
    /// Profiles of this AppView.
    pub fn new(appview: Option<AppView>) -> Self {
        Self { appview, renewed: Arc::default() }
    }
}

impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiles").field("appview", &self.appview).finish_non_exhaustive()
    }
}

/// What is kept of a profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// When it was fetched.
    pub(super) at: DateTime<Utc>,
    /// Until when it is fresh.
    pub(super) until: DateTime<Utc>,
    /// The profile; `None` when nobody is there, or is to be shown.
    pub(super) found: Option<Profile>,
    /// Origin of the PDS, where it was looked at.
    pub(super) pds: Option<String>,
    /// It had to be made without the AppView.
    pub(super) is_makeshift: bool,
}

/// The profile as it is kept, however old, or else as it is fetched now.
pub(super) async fn kept(app: &App, did: &Did) -> Result<Kept> {
    let mut outcome = "kept";
    let fetched = async {
        outcome = "fetched";
        bytes(&fetch::fetch(app, did).boxed().await?)
    };
    let kept = app.kv.cached(&id(did), LONGEST, fetched).await.and_then(|bytes| read(&bytes));
    let now = app.clock.now();
    let kept = match kept {
        // That nobody is there is never shown for longer than it is fresh.
        Ok(kept) if kept.found.is_none() && kept.until <= now => {
            outcome = "fetched";
            fetch_and_keep(app, did).await
        }
        kept => kept,
    };
    let outcome = match &kept {
        Ok(kept) if kept.until <= now => "stale",
        Ok(_) => outcome,
        Err(_) => "failure",
    };
    counter!("gateway_profiles_total", "outcome" => outcome).increment(1);
    kept
}

/// Whom a handle names that none of our accounts has; `None` when it names nobody.
pub(super) async fn did_of(app: &App, handle: &Handle) -> Result<Option<Did>> {
    let handle = handle.to_lowercase();
    let ask = async {
        let Some((did, kept)) = fetch::fetch_by_handle(app, &handle).boxed().await? else { return Ok(Bytes::new()) };
        // Asked for by handle, it need not be asked for by DID.
        if let Some(kept) = kept {
            app.kv.keep(&id(&did), LONGEST, bytes(&kept)?).await;
        }
        Ok(Bytes::from(did.into_string()))
    };
    let did = app.kv.cached(&format!("handle:{}", handle.as_str()), NAMES, ask).await?;
    Ok(std::str::from_utf8(&did).ok().and_then(|did| Did::parse(did).ok()))
}

/// Fetches a profile anew, whatever is kept.
///
/// Errors: `Upstream` and `RateLimited` when everybody who could tell is away; what is kept stays.
async fn refresh(app: &App, did: &Did) -> Result<()> {
    let fetched = fetch::fetch(app, did).boxed().await?;
    let before = app.kv.cached(&id(did), LONGEST, async { bytes(&fetched) }).await;
    let before = before.and_then(|before| read(&before)).ok().filter(|before| before.found.is_some());
    let now = app.clock.now();
    let (kept, ttl) = match before {
        // What the AppView said before is better than what is known without it; but not for ever.
        Some(before) if fetched.is_makeshift && !before.is_makeshift => {
            let left = LONGEST.saturating_sub((now - before.at).to_std().unwrap_or_default());
            if left.is_zero() { (fetched, LONGEST) } else { (Kept { until: now + MAKESHIFT, ..before }, left) }
        }
        _ => (fetched, LONGEST),
    };
    app.kv.keep(&id(did), ttl, bytes(&kept)?).await;
    match kept.found {
        // Without the AppView nothing is known of pictures.
        Some(Profile { source: Source::AppView, avatar_url, .. }) => {
            account::note_picture(app, did.as_str(), avatar_url.as_deref()).await
        }
        _ => Ok(()),
    }
}

/// Fetches the profiles of those of these accounts anew that members are linked to: something about them may have changed.
/// A host that is away changes nothing; an error is one of our own system.
pub async fn follow(app: &App, dids: &[String]) -> Result<()> {
    let mut linked = BTreeSet::new();
    for tenant in Tenant::all(app.db.read()).await? {
        for (did, known) in account::by_dids(app.db.read(), tenant, dids.to_vec()).await? {
            if known.account.is_some_and(|account| !account.user.is_shadow_account) {
                linked.insert(did);
            }
        }
    }
    let fetched = linked.iter().filter_map(|did| Did::parse(did).ok()).map(|did| async move {
        if let Err(error) = refresh(app, &did).await {
            debug!(%did, error = error.chain(), "a profile could not be fetched anew");
        }
    });
    join_all(fetched).await;
    Ok(())
}

/// Fetches a profile anew in the background, once at a time: for readers of one that is stale, and for who has just signed in.
pub fn renew(app: &App, did: &Did) {
    let renewed = Arc::clone(&app.profiles.renewed);
    let is_first = renewed.lock().unwrap_or_else(PoisonError::into_inner).insert(did.to_string());
    if !is_first {
        return;
    }
    let (app, did) = (app.clone(), did.clone());
    tokio::spawn(async move {
        let _done = Done { renewed, did: did.to_string() };
        if let Err(error) = refresh(&app, &did).await {
            debug!(%did, error = error.chain(), "a profile could not be fetched anew");
        }
    });
}

/// Somebody fetches this profile; as long as it lives.
struct Done {
    renewed: Arc<Mutex<HashSet<String>>>,
    did: String,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.did);
    }
}

async fn fetch_and_keep(app: &App, did: &Did) -> Result<Kept> {
    let kept = fetch::fetch(app, did).boxed().await?;
    app.kv.keep(&id(did), LONGEST, bytes(&kept)?).await;
    Ok(kept)
}

fn id(did: &Did) -> String {
    format!("profile:{did}")
}

fn bytes(kept: &Kept) -> Result<Bytes> {
    serde_json::to_vec(kept).map(Bytes::from).map_err(Error::bug)
}

fn read(bytes: &[u8]) -> Result<Kept> {
    serde_json::from_slice(bytes).map_err(Error::bug)
}
