//! Members: signing in, and the link to their account on the network.

use chrono::{DateTime, Utc};
use entities::{
    preferences::Bluesky,
    sets::{AuditAction, SourceType, UserRole},
    user,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect, QueryTrait as _,
    sea_query::{Expr, ExprTrait, Func, SelectStatement},
};
use tracing::info;
use url::Url;

use super::{identity, told};
use crate::{
    app::App,
    domain::{
        audit::{self, Deed},
        ingest, session,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db,
};

/// Somebody who has just shown, to their own PDS, that a DID is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The DID.
    pub did: String,
    /// The handle, if it was verified in both directions; `None` otherwise.
    pub handle: Option<String>,
    /// Origin of the PDS that the DID's document names.
    pub pds: Url,
    /// Scopes that were granted.
    pub scopes: Vec<String>,
}

/// The account of whoever has signed in, in the tenant that is meant. It is the only way in, and does the same however
/// often and however many times at once it is called: the account of that DID is a member's and stays it; or it is a
/// shadow, which becomes a member's where it stands, with all that it has; or it is made. The unique key (tenant, DID)
/// decides between two that try at once.
///
/// Errors: `DID_MALFORMED`.
pub async fn sign_in(app: &App, signed_in: &SignedIn) -> Result<user::Model> {
    check(signed_in)?;
    let entered = app.db.transact(|tx| async move { enter(&tx, app, signed_in).await });
    let (user, told) = entered.await?;
    info!(user = user.id, did = signed_in.did, pds = signed_in.pds.as_str(), "a member signed in");
    if told > 0 {
        app.changes.ring();
    }
    Ok(user)
}

/// Refuses what no sign-in can have given.
pub(super) fn check(signed_in: &SignedIn) -> Result<()> {
    if ingest::accepts(&signed_in.did) {
        return Ok(());
    }
    Err(Error::invalid("did", "DID_MALFORMED", "an account is named by a did:plc or a host-level did:web"))
}

/// The account, and how many changes of events were told.
async fn enter(tx: &DatabaseTransaction, app: &App, signed_in: &SignedIn) -> Result<(user::Model, usize)> {
    let did = &signed_in.did;
    if holder(tx, app.tenant, did).await?.is_none_or(|user| user.is_shadow_account) {
        // A shadow's events are told to have a member for an organiser: nobody else may change them meanwhile.
        db::lock(tx, &ingest::LOCK).await?;
    }
    let now = app.clock.now();
    note_identity(tx, signed_in, now).await?;
    let bluesky = |held: Option<&Bluesky>| Some(connected(signed_in, held, now));
    let Some(held) = hold(tx, app.tenant, did).await? else {
        let row = user::ActiveModel {
            id: NotSet,
            tenant_id: Set(app.tenant.id()),
            did: Set(Some(did.clone())),
            is_shadow_account: Set(false),
            provider: Set(SourceType::Bluesky),
            source_name: Set(None),
            role: Set(Some(UserRole::Member)),
            display_name: Set(None),
            email: Set(None),
            preferences_bluesky: Set(bluesky(None)),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let user = row.insert(tx).await?;
        audit::note(tx, Deed::new(did, AuditAction::Joined, &user), now).await?;
        return Ok((user, 0));
    };
    let changes = user::ActiveModel {
        id: Set(held.id),
        is_shadow_account: Set(false),
        role: Set(Some(held.role.unwrap_or(UserRole::Member))),
        preferences_bluesky: Set(bluesky(held.preferences_bluesky.as_ref())),
        updated_at: Set(now),
        ..Default::default()
    };
    let user = changes.update(tx).await?;
    if !held.is_shadow_account {
        if held.preferences_bluesky.as_ref().is_none_or(|link| link.did != *did) {
            // The DID was given to a member without being shown. Now it is, and whoever was in there may be somebody else.
            session::end_all(tx, user.id, now).await?;
        }
        return Ok((user, 0));
    }
    audit::note(tx, Deed::new(did, AuditAction::Claimed, &user), now).await?;
    let told = told::organizer(tx, app.tenant, vec![user.id], now).await?;
    Ok((user, told))
}

/// What the network is known for of whoever has signed in; the directory is asked for the rest.
pub(super) async fn note_identity(tx: &impl ConnectionTrait, signed_in: &SignedIn, now: DateTime<Utc>) -> Result<()> {
    let did = std::slice::from_ref(&signed_in.did);
    identity::note(tx, did, now).await?;
    identity::save_pds(tx, &signed_in.did, signed_in.pds.as_str(), now).await?;
    identity::ask_again(tx, did.to_vec(), now).await
}

/// A link in force. What was chosen before stays, and so does the instant of a link that was in force all the time.
pub(super) fn connected(signed_in: &SignedIn, held: Option<&Bluesky>, now: DateTime<Utc>) -> Bluesky {
    let same = held.filter(|held| held.did == signed_in.did);
    Bluesky {
        did: signed_in.did.clone(),
        handle: signed_in.handle.clone(),
        avatar: same.and_then(|held| held.avatar.clone()),
        connected: true,
        auto_post: held.is_some_and(|held| held.auto_post),
        scopes: signed_in.scopes.clone(),
        connected_at: same.filter(|held| held.connected).map_or(now, |held| held.connected_at),
        disconnected_at: None,
    }
}

/// Whether somebody's account, in any tenant, is linked to this DID, and the link is in force.
pub async fn is_linked(app: &App, did: &str) -> Result<bool> {
    let holders = user::Entity::find().filter(user::Column::Did.eq(did)).all(app.db.read()).await?;
    let in_force = |user: &user::Model| user.preferences_bluesky.as_ref().is_some_and(|link| link.connected);
    Ok(holders.iter().any(in_force))
}

/// Notes the address of a member who has none, unless another member of the tenant has it. Whether it was noted.
pub async fn fill_email(app: &App, user_id: i64, address: &str) -> Result<bool> {
    let filled = app.db.transact(|tx| async move {
        let Some(member) = find(&*tx, user_id).await? else { return Ok(false) };
        let same = Func::lower(Expr::col(user::Column::Email)).eq(address.to_lowercase());
        if Tenant::of_user(&member).users().filter(same).one(&*tx).await?.is_some() {
            return Ok(false);
        }
        let filled = user::Entity::update_many()
            .col_expr(user::Column::Email, Expr::value(address))
            .col_expr(user::Column::UpdatedAt, Expr::value(app.clock.now()))
            .filter(user::Column::Id.eq(user_id))
            .filter(user::Column::Email.is_null());
        Ok(filled.exec(&*tx).await?.rows_affected > 0)
    });
    filled.await
}

/// The account that holds a DID, whoever's it is.
pub(crate) async fn holder(db: &impl ConnectionTrait, tenant: Tenant, did: &str) -> Result<Option<user::Model>> {
    Ok(tenant.users().filter(user::Column::Did.eq(did)).one(db).await?)
}

/// The same, kept from everybody else until the end of the transaction.
pub(super) async fn hold(tx: &impl ConnectionTrait, tenant: Tenant, did: &str) -> Result<Option<user::Model>> {
    Ok(tenant.users().filter(user::Column::Did.eq(did)).lock_exclusive().one(tx).await?)
}

/// The ids of all members, whatever the tenant, to look among.
pub(crate) fn ids() -> SelectStatement {
    let members = user::Entity::find().select_only().column(user::Column::Id);
    members.filter(user::Column::IsShadowAccount.eq(false)).into_query()
}

/// The account with this id, if it is a member's, whatever the tenant.
pub(crate) async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<user::Model>> {
    Ok(user::Entity::find_by_id(id).filter(user::Column::IsShadowAccount.eq(false)).one(db).await?)
}
