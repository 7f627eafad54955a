//! Looking after accounts.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::{
    api::graphql::{
        account::{ShadowAccount, User},
        context::Surroundings,
        directives::{AccessScope, SIFT, access, cost, semanticNonNull},
        error::{Failure, Fallible},
        id::{self, Kind},
        member::{ClaimShadowAccountPayload, payload_of},
        page::{Total, connection},
        payload::payload,
        query::Query,
        scalars::Did,
        sets::GrantedRole,
        user_error::outcome,
        viewer,
    },
    domain::{
        account::{self, care, shadow_order},
        page::Wanted,
    },
    error::Error,
};

/// A shadow account with what hangs on it.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct ShadowAccountBurden {
    /// The account.
    account: ShadowAccount,
    /// Events that it organises, hidden ones too.
    event_count: i32,
    /// Answers that it gave, hidden ones too.
    rsvp_count: i32,
}

connection! {
    /// Page of shadow accounts with what hangs on them.
    ShadowAccountBurdenConnection,
    /// Shadow account in a page, with what hangs on it.
    ShadowAccountBurdenEdge,
    /// Position of the account.
    /// The account with what hangs on it.
    ShadowAccountBurden
}

/// A page of all shadow accounts of the tenant.
pub(super) async fn list(ctx: &Context<'_>, wanted: &Wanted) -> Result<ShadowAccountBurdenConnection, Failure> {
    let app = ctx.app()?;
    let order = shadow_order();
    let slice = order.slice(wanted, app.config.graphql.max_page_size)?;
    let page = care::page(app, ctx.actor(), &slice).await?;
    let number = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let edges = page.rows.iter().map(|row| {
        let node = ShadowAccountBurden {
            account: ShadowAccount::of(Arc::clone(&row.account)),
            event_count: number(row.events),
            rsvp_count: number(row.answers),
        };
        (order.cursor(&row.account.user), node)
    });
    Ok(ShadowAccountBurdenConnection::new(edges.collect(), (page.has_next, page.has_previous), Total::AllShadows))
}

/// Input of `createShadowAccount`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct CreateShadowAccountInput {
    /// Decentralised identifier of the author.
    did: Did,
}

/// Input of `claimShadowAccountFor`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct ClaimShadowAccountForInput {
    /// Account to give away.
    shadow_account_id: ID,
    /// Member who gets it.
    user_id: ID,
}

/// Input of `mergeShadowAccounts`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct MergeShadowAccountsInput {
    /// Account that goes.
    shadow_account_id: ID,
    /// Account that stays.
    into_id: ID,
}

/// Input of `deleteShadowAccount`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct DeleteShadowAccountInput {
    /// Account that goes.
    shadow_account_id: ID,
}

/// Input of `setMemberRole`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct SetMemberRoleInput {
    /// Member.
    user_id: ID,
    /// What they may do.
    role: GrantedRole,
}

payload! {
    /// Result of `createShadowAccount`.
    CreateShadowAccountPayload {
        /// The account, made now or before.
        shadow_account: Option<ShadowAccount>,
    }
}

payload! {
    /// Result of `mergeShadowAccounts`.
    MergeShadowAccountsPayload {
        /// The account that stayed.
        shadow_account: Option<ShadowAccount>,
        /// Events that changed their organiser.
        transferred_event_count: Option<i32>,
        /// Answers that changed hands; of two to one event the newer one is kept.
        transferred_rsvp_count: Option<i32>,
    }
}

payload! {
    /// Result of `deleteShadowAccount`.
    DeleteShadowAccountPayload {
        /// Identifier of the account that is gone.
        deleted_id: Option<ID>,
    }
}

payload! {
    /// Result of `setMemberRole`.
    SetMemberRolePayload {
        /// The member.
        user: Option<User>,
    }
}

/// Looking after accounts.
#[derive(Debug, Default)]
pub(crate) struct AccountMutation;

/// Looking after accounts.
#[Object]
impl AccountMutation {
    /// Make a shadow account of a decentralised identifier, unless there is one.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn create_shadow_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: CreateShadowAccountInput,
    ) -> Fallible<CreateShadowAccountPayload> {
        Some(create(ctx, input).await)
    }

    /// Give a shadow account, with all its events and answers, to a member for whom the administrator vouches.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn claim_shadow_account_for(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: ClaimShadowAccountForInput,
    ) -> Fallible<ClaimShadowAccountPayload> {
        Some(claim_for(ctx, input).await)
    }

    /// Merge one shadow account into another one. An account has at most one decentralised identifier and at most one site.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn merge_shadow_accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: MergeShadowAccountsInput,
    ) -> Fallible<MergeShadowAccountsPayload> {
        Some(merge(ctx, input).await)
    }

    /// Delete a shadow account that has neither events nor answers.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn delete_shadow_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: DeleteShadowAccountInput,
    ) -> Fallible<DeleteShadowAccountPayload> {
        Some(delete(ctx, input).await)
    }

    /// Grant a member a role, or take it back.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn set_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: SetMemberRoleInput,
    ) -> Fallible<SetMemberRolePayload> {
        Some(set_role(ctx, input).await)
    }
}

/// The accounts that identifiers name. Who may not call the mutation learns that first.
fn named<const N: usize>(ctx: &Context<'_>, ids: [(&ID, &'static str); N]) -> crate::error::Result<[i64; N]> {
    ctx.actor().administers_own_tenant()?;
    let mut keys = [0; N];
    for (key, (id, field)) in keys.iter_mut().zip(ids) {
        *key = id::decode_as(Kind::Account, id, field)?;
    }
    Ok(keys)
}

async fn shadow(ctx: &Context<'_>, id: i64) -> Result<ShadowAccount, Failure> {
    let app = ctx.app()?;
    let account = account::by_ids(app.db.read(), app.tenant, vec![id]).await?.remove(&id);
    let gone = || Error::bug(anyhow::anyhow!("account {id} is gone"));
    Ok(ShadowAccount::of(account.ok_or_else(gone)?))
}

async fn create(ctx: &Context<'_>, input: CreateShadowAccountInput) -> Result<CreateShadowAccountPayload, Failure> {
    let (row, user_errors) = outcome(care::create(ctx.app()?, ctx.actor(), &input.did.0).await, &["input"])?;
    let shadow_account = match row {
        Some(row) => Some(shadow(ctx, row.id).await?),
        None => None,
    };
    Ok(CreateShadowAccountPayload { shadow_account, user_errors, query: Query::default() })
}

async fn claim_for(ctx: &Context<'_>, input: ClaimShadowAccountForInput) -> Result<ClaimShadowAccountPayload, Failure> {
    let app = ctx.app()?;
    let claim = async {
        let ids = [(&input.shadow_account_id, "shadowAccountId"), (&input.user_id, "userId")];
        let [from, user] = named(ctx, ids)?;
        account::claim_for(app, ctx.actor(), from, user).await
    };
    let (claimed, user_errors) = outcome(claim.await, &["input"])?;
    payload_of(ctx, claimed, user_errors).await
}

async fn merge(ctx: &Context<'_>, input: MergeShadowAccountsInput) -> Result<MergeShadowAccountsPayload, Failure> {
    let app = ctx.app()?;
    let merge = async {
        let ids = [(&input.shadow_account_id, "shadowAccountId"), (&input.into_id, "intoId")];
        let [from, into] = named(ctx, ids)?;
        care::merge(app, ctx.actor(), from, into).await
    };
    let (merged, user_errors) = outcome(merge.await, &["input"])?;
    let number = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let transferred = merged.as_ref().map(|(_, transferred)| *transferred);
    let shadow_account = match merged {
        Some((row, _)) => Some(shadow(ctx, row.id).await?),
        None => None,
    };
    Ok(MergeShadowAccountsPayload {
        shadow_account,
        transferred_event_count: transferred.map(|transferred| number(transferred.events)),
        transferred_rsvp_count: transferred.map(|transferred| number(transferred.answers)),
        user_errors,
        query: Query::default(),
    })
}

async fn delete(ctx: &Context<'_>, input: DeleteShadowAccountInput) -> Result<DeleteShadowAccountPayload, Failure> {
    let app = ctx.app()?;
    let delete = async {
        let [id] = named(ctx, [(&input.shadow_account_id, "shadowAccountId")])?;
        care::delete(app, ctx.actor(), id).await
    };
    let (deleted, user_errors) = outcome(delete.await, &["input"])?;
    let deleted_id = deleted.map(|()| input.shadow_account_id);
    Ok(DeleteShadowAccountPayload { deleted_id, user_errors, query: Query::default() })
}

async fn set_role(ctx: &Context<'_>, input: SetMemberRoleInput) -> Result<SetMemberRolePayload, Failure> {
    let app = ctx.app()?;
    let set = async {
        let [user] = named(ctx, [(&input.user_id, "userId")])?;
        care::set_role(app, ctx.actor(), user, input.role.into()).await
    };
    let (row, user_errors) = outcome(set.await, &["input"])?;
    let user = match row {
        Some(row) => Some(viewer::load(ctx, row.id).await?),
        None => None,
    };
    Ok(SetMemberRolePayload { user, user_errors, query: Query::default() })
}
