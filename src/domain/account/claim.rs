//! Shadow accounts that become somebody's: claimed by whoever has shown that the DID is theirs, or given to a member by an
//! administrator. Both may be said again, and then change nothing.

use entities::{sets::AuditAction, user};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, QueryFilter, QuerySelect};
use tracing::info;

use super::{
    member::{self, SignedIn},
    unite::{Transferred, unite},
};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        audit::{self, Deed},
        ingest,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db,
};

/// What a claim led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The member.
    pub user: user::Model,
    /// What went over to them.
    pub transferred: Transferred,
}

/// Takes over a shadow account for the person who asks. Its DID must be the one that the person's account is linked to.
///
/// Errors: those of [`Actor::person`]; `NotFound`; `NOT_YOURS` for a shadow of somebody else; those of merging,
/// `BOTH_HAVE_DIDS`.
pub async fn claim(app: &App, actor: &Actor, shadow_id: i64) -> Result<Claimed> {
    let person = actor.person()?;
    take(app, actor, (shadow_id, person.user), |shadow, member| {
        let link = member.preferences_bluesky.as_ref().filter(|link| link.connected);
        if shadow.did.is_some() && shadow.did.as_ref() == link.map(|link| &link.did) {
            return Ok(());
        }
        let why = "sign in as this account, or link it to yours, first";
        Err(Error::invalid("shadowAccountId", "NOT_YOURS", why))
    })
    .await
}

/// Gives a shadow account to a member, whom the actor vouches for.
///
/// A DID that a member got this way is not shown to be theirs: whoever shows it later is let in as that member, and all others
/// are signed out.
///
/// Errors: those of [`Actor::administers`]; `NotFound`; `BOTH_HAVE_DIDS`, `BOTH_ARE_SITES`.
pub async fn claim_for(app: &App, actor: &Actor, shadow_id: i64, user_id: i64) -> Result<Claimed> {
    actor.administers(app.tenant)?;
    take(app, actor, (shadow_id, user_id), |_, _| Ok(())).await
}

async fn take(
    app: &App,
    actor: &Actor,
    (shadow_id, user_id): (i64, i64),
    check: impl Fn(&user::Model, &user::Model) -> Result<()>,
) -> Result<Claimed> {
    let check = &check;
    let taken = app.db.transact(|tx| async move {
        db::lock(&*tx, &ingest::LOCK).await?;
        let missing = |what, id: i64| Error::NotFound { what, key: id.to_string() };
        let member = hold(&tx, app.tenant, user_id).await?.filter(|user| !user.is_shadow_account);
        let member = member.ok_or_else(|| missing("member", user_id))?;
        let nothing = Claimed { user: member.clone(), transferred: Transferred::default() };
        if shadow_id == member.id {
            // It became the member's where it stood.
            return Ok((nothing, 0));
        }
        let shadow = hold(&tx, app.tenant, shadow_id).await?.filter(|user| user.is_shadow_account);
        let Some(shadow) = shadow else {
            let before = audit::has(&*tx, app.tenant, AuditAction::Claimed, (member.id, shadow_id)).await?;
            return if before { Ok((nothing, 0)) } else { Err(missing("shadow account", shadow_id)) };
        };
        check(&shadow, &member)?;
        let (user, transferred, told) = give(&tx, app, actor.name(), (&shadow, &member)).await?;
        Ok((Claimed { user, transferred }, told))
    });
    let (claimed, told) = taken.await?;
    info!(user = claimed.user.id, shadow = shadow_id, by = actor.name(), "a shadow account was claimed");
    if told > 0 {
        app.changes.ring();
    }
    Ok(claimed)
}

/// Merges a shadow into a member's account and notes it.
async fn give(
    tx: &DatabaseTransaction,
    app: &App,
    actor: &str,
    (shadow, member): (&user::Model, &user::Model),
) -> Result<(user::Model, Transferred, usize)> {
    let now = app.clock.now();
    let (user, transferred, told) = unite(tx, app.tenant, (shadow, member), now).await?;
    let deed = Deed {
        other: Some(shadow.id),
        details: details(&transferred),
        ..Deed::new(actor, AuditAction::Claimed, &user)
    };
    audit::note(tx, deed, now).await?;
    Ok((user, transferred, told))
}

/// Links an account of the network, which a member has just shown to be theirs, to the member's account; a shadow of it is
/// claimed with it. A link that was cut is in force again.
///
/// Errors: `NotFound` for whoever is no member of the tenant; `ALREADY_LINKED` where the member's account is linked to another
/// DID, `DID_TAKEN` where the DID is another member's; `DID_MALFORMED`.
pub async fn link(app: &App, user_id: i64, signed_in: &SignedIn) -> Result<Claimed> {
    member::check(signed_in)?;
    let linked = app.db.transact(|tx| async move { connect(&tx, app, user_id, signed_in).await });
    let (claimed, told) = linked.await?;
    info!(user = user_id, did = signed_in.did, "an account of the network was linked");
    if told > 0 {
        app.changes.ring();
    }
    Ok(claimed)
}

async fn connect(tx: &DatabaseTransaction, app: &App, user_id: i64, signed_in: &SignedIn) -> Result<(Claimed, usize)> {
    let did = &signed_in.did;
    db::lock(tx, &ingest::LOCK).await?;
    let now = app.clock.now();
    member::note_identity(tx, signed_in, now).await?;
    let member = hold(tx, app.tenant, user_id).await?.filter(|user| !user.is_shadow_account);
    let member = member.ok_or_else(|| Error::NotFound { what: "member", key: user_id.to_string() })?;
    let refused = |code, why| Err(Error::invalid("did", code, why));
    if member.did.as_ref().is_some_and(|held| held != did) {
        return refused("ALREADY_LINKED", "this account is linked to another account of the network");
    }
    let (member, transferred, told) = match member::hold(tx, app.tenant, did).await? {
        Some(shadow) if shadow.is_shadow_account => give(tx, app, did, (&shadow, &member)).await?,
        Some(holder) if holder.id != member.id => {
            return refused("DID_TAKEN", "another member has this account of the network");
        }
        _ => (member, Transferred::default(), 0),
    };
    let changes = user::ActiveModel {
        id: Set(member.id),
        did: Set(Some(did.clone())),
        preferences_bluesky: Set(Some(member::connected(signed_in, member.preferences_bluesky.as_ref(), now))),
        updated_at: Set(now),
        ..Default::default()
    };
    let user = changes.update(tx).await?;
    audit::note(tx, Deed::new(did, AuditAction::Linked, &user), now).await?;
    Ok((Claimed { user, transferred }, told))
}

/// An account of the tenant, kept from everybody else until the end of the transaction.
pub(super) async fn hold(tx: &DatabaseTransaction, tenant: Tenant, id: i64) -> Result<Option<user::Model>> {
    Ok(tenant.users().filter(user::Column::Id.eq(id)).lock_exclusive().one(tx).await?)
}

pub(super) fn details(transferred: &Transferred) -> Vec<String> {
    let Transferred { events, answers, superseded } = transferred;
    vec![format!("events={events}"), format!("answers={answers}"), format!("superseded={superseded}")]
}
