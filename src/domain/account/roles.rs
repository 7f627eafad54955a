//! Who administers a tenant: members to whom it was granted, and whom the configuration names.

use entities::sets::UserRole;

use super::{Account, Actor as Named, administrators, by_dids, care, dids_by_handle, member, verified_handle};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        person::{self, Role},
    },
    error::{Error, Result},
};

/// Somebody with a role above that of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The DID; none for a member who is linked to none.
    pub did: Option<String>,
    /// The handle, while it is verified.
    pub handle: Option<String>,
    /// What they may do.
    pub role: Role,
    /// The configuration says so, and only there can it be taken back.
    pub is_configured: bool,
}

/// Grants a member of the tenant a role, or takes it back, as [`care::set_role`]. A handle counts as far as it is verified.
///
/// Errors: those of [`care::set_role`]; `NotFound` for whoever has never signed in.
pub async fn set(app: &App, actor: &Actor, named: &Named, role: UserRole) -> Result<Account> {
    actor.administers(app.tenant)?;
    let (did, name) = match named {
        Named::Did(did) => (Some(did.clone()), did),
        Named::Handle(handle) => (dids_by_handle(app.db.read(), vec![handle.clone()]).await?.remove(handle), handle),
    };
    let missing = || Error::NotFound { what: "member", key: name.clone() };
    let did = did.ok_or_else(missing)?;
    let held = member::holder(app.db.read(), app.tenant, &did).await?.ok_or_else(missing)?;
    let user = care::set_role(app, actor, held.id, role).await?;
    let identity = by_dids(app.db.read(), app.tenant, vec![did.clone()]).await?.remove(&did);
    Ok(Account { user, identity: identity.and_then(|known| known.identity) })
}

/// Everybody who administers the tenant, in the order in which they came; then those whom the configuration names.
///
/// Errors: those of [`Actor::administers`].
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<Holder>> {
    actor.administers(app.tenant)?;
    let granted = administrators(app.db.read(), app.tenant).await?.into_iter().map(|account| {
        let handle = account.handle().map(str::to_owned);
        Holder { did: account.user.did, handle, role: Role::Admin, is_configured: false }
    });
    let mut holders: Vec<Holder> = granted.collect();
    let access = &app.config.access;
    let mut configured = Vec::new();
    for entry in &access.administrators {
        let (slug, did) = person::administrator(entry);
        if person::administered(app, slug).await? == Some(app.tenant) {
            configured.push((did, Role::Admin));
        }
    }
    configured.extend(access.operators.iter().map(|did| (did.as_str(), Role::Operator)));
    let dids = configured.iter().map(|(did, _)| (*did).to_owned()).collect();
    let known = by_dids(app.db.read(), app.tenant, dids).await?;
    holders.extend(configured.into_iter().map(|(did, role)| {
        let identity = known.get(did).and_then(|known| known.identity.as_ref());
        let handle = identity.and_then(verified_handle).map(str::to_owned);
        Holder { did: Some(did.to_owned()), handle, role, is_configured: true }
    }));
    Ok(holders)
}
