//! What administrators do with accounts: they list shadows with what hangs on them, make, merge and delete them, and grant
//! roles. Each deed is noted in the audit log.

use std::{collections::HashMap, sync::Arc};

use entities::{
    event, event_attendee as attendee,
    sets::{AuditAction, UserRole},
    user,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect, Select,
};
use tracing::info;

use super::{
    Account,
    claim::{details, hold},
    identity, member, query, shadow,
    unite::{Transferred, unite},
};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        audit::{self, Deed},
        ingest,
        page::{self, Page, Slice},
    },
    error::{Error, Result},
    infra::db::{self, among},
};

/// A shadow account with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burden {
    /// The account.
    pub account: Arc<Account>,
    /// Events that it organises, hidden ones too.
    pub events: u64,
    /// Answers that it gave, hidden ones too.
    pub answers: u64,
}

fn all(app: &App, actor: &Actor) -> Result<Select<user::Entity>> {
    actor.administers(app.tenant)?;
    Ok(app.tenant.users().filter(user::Column::IsShadowAccount.eq(true)))
}

/// A page of all shadow accounts of the tenant, hidden ones too, newest first, with how much hangs on each.
pub async fn page(app: &App, actor: &Actor, slice: &Slice) -> Result<Page<Burden>> {
    let db = app.db.read();
    let page = query::shadow_order().page(db, all(app, actor)?, slice).await?;
    let ids: Vec<i64> = page.rows.iter().map(|user| user.id).collect();
    let mut accounts = query::by_ids(db, app.tenant, ids.clone()).await?;
    let (events, answers) = counts(app, ids.clone()).await?;
    let of = |counts: &HashMap<i64, i64>, id| counts.get(id).copied().map_or(0, i64::unsigned_abs);
    let rows = ids.iter().filter_map(|id| {
        let account = accounts.remove(id)?;
        Some(Arc::new(Burden { account, events: of(&events, id), answers: of(&answers, id) }))
    });
    Ok(Page { rows: rows.collect(), has_next: page.has_next, has_previous: page.has_previous })
}

/// How many shadow accounts there are, as [`page::count`] counts.
pub async fn count(app: &App, actor: &Actor) -> Result<u64> {
    page::count(app.db.read(), all(app, actor)?).await
}

/// Events and answers of each of these accounts, one statement for each kind.
async fn counts(app: &App, ids: Vec<i64>) -> Result<(HashMap<i64, i64>, HashMap<i64, i64>)> {
    let db = app.db.read();
    let events: Vec<(i64, i64)> = app
        .tenant
        .events()
        .select_only()
        .column(event::Column::UserId)
        .column_as(event::Column::Id.count(), "count")
        .filter(among(db.get_database_backend(), event::Column::UserId, ids.clone()))
        .group_by(event::Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    let answers: Vec<(i64, i64)> = app
        .tenant
        .attendees()
        .select_only()
        .column(attendee::Column::UserId)
        .column_as(attendee::Column::Id.count(), "count")
        .filter(among(db.get_database_backend(), attendee::Column::UserId, ids))
        .group_by(attendee::Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    Ok((events.into_iter().collect(), answers.into_iter().collect()))
}

/// A shadow account of a DID: made now, unless there is one.
///
/// Errors: those of [`Actor::administers`]; `DID_MALFORMED`; `DID_TAKEN` where a member has the DID.
pub async fn create(app: &App, actor: &Actor, did: &str) -> Result<user::Model> {
    actor.administers(app.tenant)?;
    if !ingest::accepts(did) {
        return Err(Error::invalid("did", "DID_MALFORMED", "expected a did:plc or a host-level did:web"));
    }
    let made = app.db.transact(|tx| async move {
        let now = app.clock.now();
        identity::note(&*tx, &[did.to_owned()], now).await?;
        if let Some(held) = member::holder(&*tx, app.tenant, did).await? {
            let why = "a member has this account of the network";
            return if held.is_shadow_account { Ok(held) } else { Err(Error::invalid("did", "DID_TAKEN", why)) };
        }
        let made = shadow::create(&*tx, app.tenant, vec![did.to_owned()], now).await?;
        let lost = || Error::bug(anyhow::anyhow!("an account was made and is gone"));
        let user = member::holder(&*tx, app.tenant, did).await?.ok_or_else(lost)?;
        if made.created > 0 {
            audit::note(&*tx, Deed::new(actor.name(), AuditAction::ShadowCreated, &user), now).await?;
        }
        Ok(user)
    });
    made.await
}

/// Gives everything that one shadow account has to another one, and deletes it. Said again, it changes nothing.
///
/// Errors: those of [`Actor::administers`]; `NotFound`; `SAME_ACCOUNT`, `BOTH_HAVE_DIDS`, `BOTH_ARE_SITES`.
pub async fn merge(app: &App, actor: &Actor, from: i64, into: i64) -> Result<(user::Model, Transferred)> {
    actor.administers(app.tenant)?;
    if from == into {
        return Err(Error::invalid("shadowAccountId", "SAME_ACCOUNT", "an account is not merged with itself"));
    }
    let merged = app.db.transact(|tx| async move {
        db::lock(&*tx, &ingest::LOCK).await?;
        let now = app.clock.now();
        let kept = shadow_held(&tx, app, into).await?.ok_or_else(|| missing(into))?;
        let Some(gone) = shadow_held(&tx, app, from).await? else {
            let before = audit::has(&*tx, app.tenant, AuditAction::ShadowMerged, (into, from)).await?;
            return if before { Ok((kept, Transferred::default(), 0)) } else { Err(missing(from)) };
        };
        let (user, transferred, told) = unite(&*tx, app.tenant, (&gone, &kept), now).await?;
        let deed = Deed::new(actor.name(), AuditAction::ShadowMerged, &user);
        audit::note(&*tx, Deed { other: Some(from), details: details(&transferred), ..deed }, now).await?;
        Ok((user, transferred, told))
    });
    let (user, transferred, told) = merged.await?;
    info!(user = user.id, shadow = from, by = actor.name(), "two shadow accounts became one");
    if told > 0 {
        app.changes.ring();
    }
    Ok((user, transferred))
}

/// Deletes a shadow account on which nothing hangs. One that has events or answers would only come back with the next record
/// of its author, and what was deleted with it would not.
///
/// Errors: those of [`Actor::administers`]; `NotFound`; `SHADOW_IN_USE`.
pub async fn delete(app: &App, actor: &Actor, id: i64) -> Result<()> {
    actor.administers(app.tenant)?;
    let deleted = app.db.transact(|tx| async move {
        db::lock(&*tx, &ingest::LOCK).await?;
        let user = shadow_held(&tx, app, id).await?.ok_or_else(|| missing(id))?;
        let has_events = app.tenant.events().filter(event::Column::UserId.eq(id)).one(&*tx).await?.is_some();
        let answers = app.tenant.attendees().filter(attendee::Column::UserId.eq(id));
        if has_events || answers.one(&*tx).await?.is_some() {
            let why = "it has events or answers: merge it, or let its owner claim it";
            return Err(Error::invalid("shadowAccountId", "SHADOW_IN_USE", why));
        }
        audit::note(&*tx, Deed::new(actor.name(), AuditAction::ShadowDeleted, &user), app.clock.now()).await?;
        user::Entity::delete_by_id(id).exec(&*tx).await?;
        Ok(())
    });
    deleted.await
}

/// Grants a member a role, or takes it back. It holds from the member's next request on.
///
/// Errors: those of [`Actor::administers`]; `NotFound`; `OWN_ROLE`: nobody takes the last administrator away unawares.
pub async fn set_role(app: &App, actor: &Actor, user_id: i64, role: UserRole) -> Result<user::Model> {
    actor.administers(app.tenant)?;
    if actor.person().is_ok_and(|person| person.user == user_id) {
        return Err(Error::invalid("userId", "OWN_ROLE", "another administrator has to do that"));
    }
    let changed = app.db.transact(|tx| async move {
        let absent = || Error::NotFound { what: "member", key: user_id.to_string() };
        let held = hold(&tx, app.tenant, user_id).await?.filter(|user| !user.is_shadow_account).ok_or_else(absent)?;
        if held.role == Some(role) {
            return Ok(held);
        }
        let now = app.clock.now();
        let changes =
            user::ActiveModel { id: Set(user_id), role: Set(Some(role)), updated_at: Set(now), ..Default::default() };
        let user = changes.update(&*tx).await?;
        let deed = Deed::new(actor.name(), AuditAction::RoleChanged, &user);
        audit::note(&*tx, Deed { details: vec![format!("role={}", role.as_str())], ..deed }, now).await?;
        Ok(user)
    });
    changed.await
}

async fn shadow_held(tx: &DatabaseTransaction, app: &App, id: i64) -> Result<Option<user::Model>> {
    Ok(hold(tx, app.tenant, id).await?.filter(|user| user.is_shadow_account))
}

fn missing(id: i64) -> Error {
    Error::NotFound { what: "shadow account", key: id.to_string() }
}
