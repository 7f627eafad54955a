//! Members for whom their PDS vouches, for one request: with a token of `com.atproto.server.getServiceAuth`.
//!
//! It has to be meant for us (`access.audiences`, letter by letter) and for this use ([`METHOD`]), to live for five minutes at
//! most, to be signed with the key in the DID's document, and to be new. It opens for members only, whatever role they have
//! stays out of it, and it opens no sockets: who wants more signs in.

use std::time::Duration;

use bytes::Bytes;

use super::{account::member, person::Person, tenant::Tenant};
pub use crate::infra::atproto::vouched::is_token;
use crate::{
    app::App,
    error::{Error, Result},
    infra::{
        atproto::{
            syntax::Did,
            vouched::{SigningKey, Token},
        },
        kv::{Key, Kind},
    },
};

/// What a token has to be made for (`lxm`).
pub const METHOD: &str = "net.openmeet.gateway.graphql";

/// Longest life of a token.
const LIFE: i64 = 300;
/// By how much other people's clocks may be ahead.
const AHEAD: i64 = 30;
/// How long a key is believed without asking again.
const KEY_LIFE: Duration = Duration::from_mins(5);
/// Longest mark of a token.
const MARK_BYTES: usize = 200;

/// Who is vouched for, in the tenant that is named, else in the one that is meant; `None` for a token that does not open, for
/// whatever reason.
///
/// Errors: `Upstream` when the DID's document cannot be read; `Unavailable` while nobody can say whether the token was used
/// before: then it opens nothing.
pub async fn person(app: &App, text: &str, tenant: Option<&str>) -> Result<Option<Person>> {
    let Some(token) = Token::parse(text) else { return Ok(None) };
    let (claims, now) = (&token.claims, app.clock.now().timestamp());
    let is_ours = app.config.access.audiences.contains(&claims.aud) && claims.lxm.as_deref() == Some(METHOD);
    let is_timely = claims.exp > now && claims.exp <= now.saturating_add(LIFE);
    let is_made = claims.iat.is_none_or(|made| made <= now.saturating_add(AHEAD));
    let mark = claims.jti.as_deref().filter(|mark| !mark.is_empty() && mark.len() <= MARK_BYTES);
    let (true, true, true, Some(mark), Ok(did)) = (is_ours, is_timely, is_made, mark, Did::parse(&claims.iss)) else {
        return Ok(None);
    };
    let tenant = match tenant {
        Some(slug) => Tenant::by_slug(app.db.read(), slug).await?,
        None => Some(app.tenant),
    };
    let Some(tenant) = tenant else { return Ok(None) };
    // Strangers' hosts are asked for members only.
    let member = member::holder(app.db.read(), tenant, did.as_str()).await?.filter(|user| !user.is_shadow_account);
    let Some(member) = member else { return Ok(None) };
    if !key(app, &did).await?.is_some_and(|key| token.is_signed_by(&key)) {
        return Ok(None);
    }
    let place = Key::new(Kind::Once, &format!("vouched:{did}:{mark}"));
    let left = u64::try_from(claims.exp - now).unwrap_or_default();
    // A second longer than it lives: it must not be forgotten before it is over.
    let is_new = app.kv.compare_and_set(&place, None, b"used", Duration::from_secs(left + 1)).await?;
    Ok(is_new.then(|| Person::vouched_for(&member)))
}

/// The key with which the DID's repository is signed.
async fn key(app: &App, did: &Did) -> Result<Option<SigningKey>> {
    let fetch = async {
        let resolved = app.directory.resolve(did).await?;
        let key = resolved.and_then(|resolved| resolved.signing_key);
        serde_json::to_vec(&key).map(Bytes::from).map_err(Error::bug)
    };
    let kept = app.kv.cached(&format!("signing-key:{did}"), KEY_LIFE, fetch).await?;
    serde_json::from_slice(&kept).map_err(Error::bug)
}
