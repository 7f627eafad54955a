//! The log of what was done to accounts: who did what to whom, and when. An entry is written in the transaction of the deed,
//! so that there is neither a deed without an entry nor an entry without its deed.

use chrono::{DateTime, Utc};
use entities::{audit_entry as entry, location::Texts, sets::AuditAction, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, EntityTrait,
};

use crate::{domain::tenant::Tenant, error::Result};

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
