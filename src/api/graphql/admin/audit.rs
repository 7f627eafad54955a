//! The log of what was done to accounts.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use entities::audit_entry::Model;

use crate::{
    api::graphql::{
        context::Surroundings,
        error::Failure,
        id::{self, Kind},
        page::{Total, connection},
        scalars::{DateTime, Did},
        sets::{AuditAction, stored},
    },
    domain::{
        audit::{self, Filter},
        page::Wanted,
    },
};

/// What was done to an account.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct AuditEntry {
    /// Who did it: a decentralised identifier, the public part of a service key, or `operator`.
    actor: String,
    /// What was done.
    action: AuditAction,
    /// The account that it was done to; it may be gone.
    account_id: ID,
    /// Decentralised identifier of that account at the time.
    did: Option<Did>,
    /// The account that was merged into it, and is gone.
    other_account_id: Option<ID>,
    /// What it led to, such as `events=3`.
    details: Vec<String>,
    /// When.
    at: DateTime,
}

connection! {
    /// Page of the audit log.
    AuditEntryConnection,
    /// Entry in a page.
    AuditEntryEdge,
    /// Position of the entry.
    /// The entry.
    AuditEntry
}

impl AuditEntry {
    fn of(row: &Model) -> Self {
        Self {
            actor: row.actor.clone(),
            action: row.action.into(),
            account_id: id::encode(Kind::Account, row.user_id),
            did: row.did.as_deref().map(Did::from),
            other_account_id: row.other_user_id.map(|other| id::encode(Kind::Account, other)),
            details: row.details.0.clone(),
            at: row.at.into(),
        }
    }
}

/// Conditions on entries of the audit log; all given conditions must hold, lists match any member.
#[derive(Clone, Debug, Default, InputObject)]
pub(crate) struct AuditFilter {
    /// It was done to this account, or to the one that was merged into another.
    account_id: Option<ID>,
    /// What was done.
    action: Option<Vec<AuditAction>>,
}

/// A page of the log of the tenant.
pub(super) async fn list(
    ctx: &Context<'_>,
    wanted: &Wanted,
    filter: Option<AuditFilter>,
) -> Result<AuditEntryConnection, Failure> {
    let app = ctx.app()?;
    let filter = filter.unwrap_or_default();
    let user = filter.account_id.map(|id| id::decode_as(Kind::Account, &id, "accountId")).transpose()?;
    let filter = Filter { user, action: stored(filter.action) };
    let order = audit::order();
    let slice = order.slice(wanted, app.config.graphql.max_page_size)?;
    let page = audit::page(app, ctx.actor(), &filter, &slice).await?;
    let edges = page.rows.iter().map(|row| (order.cursor(row), AuditEntry::of(row))).collect();
    Ok(AuditEntryConnection::new(edges, (page.has_next, page.has_previous), Total::Audit(Box::new(filter))))
}
