//! The log of what was done to accounts: who did what to whom, and when. An entry is written in the transaction of the deed,
//! so that there is neither a deed without an entry nor an entry without its deed.

use chrono::{DateTime, Utc};
use entities::{audit_entry as entry, location::Texts, sets::AuditAction, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, Select,
};

use crate::{
    app::App,
    domain::{
        actor::Actor,
        page::{self, KeyKind, Order, Page, Position, Slice},
        tenant::Tenant,
    },
    error::Result,
};

/// A deed.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    /// Who did it, as [`Actor::name`](crate::domain::actor::Actor::name) says it.
    pub actor: &'a str,
    /// What was done.
    pub action: AuditAction,
    /// The account that it was done to.
    pub user: &'a user::Model,
    /// The other account, where there are two.
    pub other: Option<i64>,
    /// What it led to.
    pub details: Vec<String>,
}

impl<'a> Deed<'a> {
    /// A deed that concerns one account.
    pub fn new(actor: &'a str, action: AuditAction, user: &'a user::Model) -> Self {
        Self { actor, action, user, other: None, details: Vec::new() }
    }
}

/// Writes an entry.
pub async fn note(tx: &impl ConnectionTrait, deed: Deed<'_>, now: DateTime<Utc>) -> Result<()> {
    let row = entry::ActiveModel {
        id: NotSet,
        tenant_id: Set(Tenant::of_user(deed.user).id()),
        actor: Set(deed.actor.to_owned()),
        action: Set(deed.action),
        user_id: Set(deed.user.id),
        did: Set(deed.user.did.clone()),
        other_user_id: Set(deed.other),
        details: Set(Texts(deed.details)),
        at: Set(now),
    };
    entry::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Whether this was done before to these two accounts, the one that stayed first.
pub async fn has(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    action: AuditAction,
    (user, other): (i64, i64),
) -> Result<bool> {
    let same = tenant.audit().filter(entry::Column::Action.eq(action)).filter(entry::Column::UserId.eq(user));
    Ok(same.filter(entry::Column::OtherUserId.eq(other)).one(db).await?.is_some())
}

/// Conditions on entries, all of which must hold; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// It was done to this account, or to the one that was merged into another.
    pub user: Option<i64>,
    /// What was done.
    pub action: Option<Vec<AuditAction>>,
}

fn visible(app: &App, actor: &Actor, filter: &Filter) -> Result<Select<entry::Entity>> {
    actor.administers(app.tenant)?;
    let concerns =
        |user: i64| Condition::any().add(entry::Column::UserId.eq(user)).add(entry::Column::OtherUserId.eq(user));
    let all = Condition::all()
        .add_option(filter.user.map(concerns))
        .add_option(filter.action.as_ref().map(|actions| entry::Column::Action.is_in(actions.iter().copied())));
    Ok(app.tenant.audit().filter(all))
}

/// A page of the log of the tenant, newest first.
///
/// Errors: those of [`Actor::administers`].
pub async fn page(app: &App, actor: &Actor, filter: &Filter, slice: &Slice) -> Result<Page<entry::Model>> {
    order().page(app.db.read(), visible(app, actor, filter)?, slice).await
}

/// How many entries there are, as [`page::count`] counts.
pub async fn count(app: &App, actor: &Actor, filter: &Filter) -> Result<u64> {
    page::count(app.db.read(), visible(app, actor, filter)?).await
}

/// How the log is cut into pages.
pub(crate) fn order() -> Order<entry::Entity> {
    Order {
        tag: b'a',
        key: entry::Column::At,
        kind: KeyKind::Instant,
        nullable: false,
        descending: true,
        id: entry::Column::Id,
        position: |row| Position { key: Some(row.at.timestamp_micros()), id: row.id },
    }
}
