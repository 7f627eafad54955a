//! What members do with their own account.

use async_graphql::{Context, ID, InputObject, Object};

use super::{
    account::User,
    context::Surroundings,
    directives::{AccessScope, SIFT, access, cost, semanticNonNull},
    error::{Failure, Fallible},
    id::{self, Kind},
    payload::payload,
    query::Query,
    user_error::outcome,
    viewer::{self, BlueskyLink},
};
use crate::domain::account::{self, Choice};

/// Input of `claimShadowAccount`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct ClaimShadowAccountInput {
    /// Account to take over.
    shadow_account_id: ID,
}

/// Input of `updateSyncPreferences`; fields left out stay as they are.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct UpdateSyncPreferencesInput {
    /// Publish new events without asking.
    auto_post: Option<bool>,
    /// False cuts the link: nothing more is written to the network. To make it again the member signs in.
    connected: Option<bool>,
}

payload! {
    /// Result of `claimShadowAccount`.
    ClaimShadowAccountPayload {
        /// Member that the account was merged into.
        user: Option<User>,
        /// Events that changed their organiser.
        transferred_event_count: Option<i32>,
        /// Answers that changed hands; of two to one event the newer one is kept.
        transferred_rsvp_count: Option<i32>,
    }
}

payload! {
    /// Result of `disconnectBluesky`.
    DisconnectBlueskyPayload {
        /// The link as it is now.
        bluesky_link: Option<BlueskyLink>,
    }
}

payload! {
    /// Result of `updateSyncPreferences`.
    UpdateSyncPreferencesPayload {
        /// The link as it is now.
        bluesky_link: Option<BlueskyLink>,
    }
}

/// What members do with their own account.
#[derive(Debug, Default)]
pub(crate) struct MemberMutation;

/// What members do with their own account.
#[Object]
impl MemberMutation {
    /// Take over a shadow account of the decentralised identifier that the caller's account is linked to, with all its
    /// events and answers. Said again, it changes nothing.
    #[graphql(
        directive = access::apply(vec![AccessScope::User]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn claim_shadow_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: ClaimShadowAccountInput,
    ) -> Fallible<ClaimShadowAccountPayload> {
        Some(claim(ctx, input).await)
    }

    /// Cut the link to the ATProtocol network: the account stays with all that it has, and nothing more is written there.
    #[graphql(
        directive = access::apply(vec![AccessScope::User]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn disconnect_bluesky(&self, ctx: &Context<'_>) -> Fallible<DisconnectBlueskyPayload> {
        Some(disconnect(ctx).await)
    }

    /// Change how the caller's account is synchronised.
    #[graphql(
        directive = access::apply(vec![AccessScope::User]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn update_sync_preferences(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: UpdateSyncPreferencesInput,
    ) -> Fallible<UpdateSyncPreferencesPayload> {
        Some(choose(ctx, input).await)
    }
}

async fn claim(ctx: &Context<'_>, input: ClaimShadowAccountInput) -> Result<ClaimShadowAccountPayload, Failure> {
    let app = ctx.app()?;
    let claim = async {
        // Who may not call it learns that first.
        ctx.actor().person()?;
        let id = id::decode_as(Kind::Account, &input.shadow_account_id, "shadowAccountId")?;
        account::claim(app, ctx.actor(), id).await
    };
    let (claimed, user_errors) = outcome(claim.await, &["input"])?;
    payload_of(ctx, claimed, user_errors).await
}

/// The payload of a claim, whoever made it.
pub(super) async fn payload_of(
    ctx: &Context<'_>,
    claimed: Option<account::Claimed>,
    user_errors: Vec<super::user_error::UserError>,
) -> Result<ClaimShadowAccountPayload, Failure> {
    let number = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let transferred = claimed.as_ref().map(|claimed| claimed.transferred);
    let user = match claimed {
        Some(claimed) => Some(viewer::load(ctx, claimed.user.id).await?),
        None => None,
    };
    Ok(ClaimShadowAccountPayload {
        user,
        transferred_event_count: transferred.map(|transferred| number(transferred.events)),
        transferred_rsvp_count: transferred.map(|transferred| number(transferred.answers)),
        user_errors,
        query: Query::default(),
    })
}

async fn disconnect(ctx: &Context<'_>) -> Result<DisconnectBlueskyPayload, Failure> {
    let (link, user_errors) = outcome(account::disconnect(ctx.app()?, ctx.actor()).await, &[])?;
    Ok(DisconnectBlueskyPayload { bluesky_link: link.map(BlueskyLink), user_errors, query: Query::default() })
}

async fn choose(ctx: &Context<'_>, input: UpdateSyncPreferencesInput) -> Result<UpdateSyncPreferencesPayload, Failure> {
    let choice = Choice { auto_post: input.auto_post, connected: input.connected };
    let (link, user_errors) = outcome(account::choose(ctx.app()?, ctx.actor(), choice).await, &["input"])?;
    Ok(UpdateSyncPreferencesPayload { bluesky_link: link.map(BlueskyLink), user_errors, query: Query::default() })
}
