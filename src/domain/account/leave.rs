//! Signing out.

use std::collections::BTreeSet;

use tracing::warn;

use super::{member, tokens};
use crate::{
    app::App,
    domain::{session, tenant::Tenant},
    error::Result,
};

/// Ends one session of a member, or all of them. How many were ended.
///
/// With the last one goes what the gateway may do at the member's PDS: nobody is left in whose name it would. The link stays
/// as it was chosen, and the next sign-in puts it into use again. A store that is away keeps nobody in: then the tokens are
/// replaced by the next sign-in, or expire.
///
/// Errors: `NotFound` for a session of somebody else.
pub async fn sign_out(app: &App, user_id: i64, session_id: Option<i64>) -> Result<u64> {
    let ended = match session_id {
        Some(id) => session::revoke(app, user_id, id).await.map(|_| 1)?,
        None => session::revoke_all(app, user_id).await?,
    };
    let user = member::find(app.db.read(), user_id).await?;
    if let Some(link) = user.and_then(|user| user.preferences_bluesky)
        && !is_in(app, user_id, &link.did).await?
        && let Err(error) = tokens::forget(app, &link.did).await
    {
        let did = link.did;
        warn!(did, error = error.chain(), "what the gateway may do for somebody who signed out was not given back");
    }
    Ok(ended)
}

/// Whether the person is still signed in, here or as a member of another tenant.
async fn is_in(app: &App, user_id: i64, did: &str) -> Result<bool> {
    let mut members = BTreeSet::from([user_id]);
    for tenant in Tenant::all(app.db.read()).await? {
        members.extend(member::holder(app.db.read(), tenant, did).await?.map(|user| user.id));
    }
    for id in members {
        if session::is_open(app, id).await? {
            return Ok(true);
        }
    }
    Ok(false)
}
