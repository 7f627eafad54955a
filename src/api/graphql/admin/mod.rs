//! What administrators do: look after what was put aside, make and revoke keys, bring events and answers.
//!
//! Whether a caller may is asked by each use case; `@access` shows it to tools, and a test holds the two together.

mod account;
mod audit;
mod counts;
mod decide;
mod external;
mod failure;
mod ingest;
mod key;
mod watching;

use async_graphql::{Context, ID, Object};

pub(super) use self::{
    account::AccountMutation,
    decide::FailureMutation,
    failure::IngestFailure,
    ingest::IntegrationMutation,
    key::{KeyMutation, ServiceKey},
    watching::FailureSubscription,
};
use self::{
    account::ShadowAccountBurdenConnection,
    audit::{AuditEntryConnection, AuditFilter},
    counts::IngestFailureCount,
    failure::{IngestFailureConnection, IngestFailureFilter},
    key::ServiceKeyConnection,
};
use super::{
    context::Surroundings,
    directives::{AccessScope, SIFT, access, cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    id::{self, Kind},
};
use crate::domain::page::Wanted;

/// Operations of the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admin;

/// Operations of the tenant.
#[Object]
impl Admin {
    /// Messages that could not be applied, and dead letters of the queues; what failed last comes first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn ingest_failures(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<IngestFailureFilter>,
    ) -> Fallible<IngestFailureConnection> {
        Some(failure::list(ctx, &Wanted { first, after, last, before }, filter).await)
    }

    /// One of these messages; null when it is not there any more.
    async fn ingest_failure(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Global identifier.")] id: ID,
    ) -> Fallible<IngestFailure> {
        failure::find(ctx, &id).await.transpose()
    }

    /// How many of these messages failed alike: by state, stage and code, the largest number first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(SIFT, None, None))]
    async fn ingest_failure_counts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<IngestFailureFilter>,
    ) -> Fallible<Vec<IngestFailureCount>> {
        Some(counts::of(ctx, filter).await)
    }

    /// Service keys of the tenant, newest first, revoked ones too.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn service_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
    ) -> Fallible<ServiceKeyConnection> {
        Some(key::list(ctx, &Wanted { first, after, last, before }).await)
    }

    /// All shadow accounts of the tenant, hidden ones too, newest first, with how much hangs on each.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn shadow_accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
    ) -> Fallible<ShadowAccountBurdenConnection> {
        Some(account::list(ctx, &Wanted { first, after, last, before }).await)
    }

    /// What was done to accounts of the tenant, by whom and when, newest first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<AuditFilter>,
    ) -> Fallible<AuditEntryConnection> {
        Some(audit::list(ctx, &Wanted { first, after, last, before }, filter).await)
    }
}

/// Entry point for administrators.
#[derive(Debug, Default)]
pub(super) struct AdminQuery;

/// Entry point for administrators.
#[Object]
impl AdminQuery {
    /// Operations of the tenant; for its administrators.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0])
    )]
    async fn admin(&self, ctx: &Context<'_>) -> Fallible<Admin> {
        Some(enter(ctx))
    }
}

/// Asked here as well, so that whoever may not is told once, and not for each field.
fn enter(ctx: &Context<'_>) -> Result<Admin, Failure> {
    ctx.actor().administers_own_tenant()?;
    Ok(Admin)
}

/// The keys of rows that identifiers of one kind name.
fn decode_all(kind: Kind, ids: &[ID], field: &'static str) -> crate::error::Result<Vec<i64>> {
    ids.iter().map(|id| id::decode_as(kind, id, field)).collect()
}
