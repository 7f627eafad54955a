//! The signed-in caller.

use std::sync::Arc;

use anyhow::anyhow;
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use entities::{preferences::Bluesky, session::Model as SessionRow, user};

use super::{
    account::{Account, ShadowAccount, User},
    context::Surroundings,
    directives::{AccessScope, SIFT, access, cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    event::{self, EventConnection},
    id::{self, Kind},
    payload::payload,
    query::Query,
    rsvp::{self, RsvpConnection},
    scalars::{DateTime, Did, Handle, Url},
    sets::{BlueskyPermission, SessionKind, UserRole},
    user_error::outcome,
};
use crate::{
    domain::{
        account::{self, member},
        login,
        page::Wanted,
        person::{Person, Role},
        session,
    },
    error::Error,
    infra::atproto::syntax,
};

/// The signed-in caller.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    person: Person,
    row: Arc<user::Model>,
}

/// The signed-in caller.
#[Object]
impl Viewer {
    /// The caller as a member.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn user(&self, ctx: &Context<'_>) -> Fallible<User> {
        Some(load(ctx, self.row.id).await)
    }

    /// What the caller may do.
    async fn role(&self) -> UserRole {
        match self.person.role {
            Role::Member => UserRole::Member,
            Role::Admin => UserRole::Admin,
            Role::Operator => UserRole::Operator,
        }
    }

    /// Address of the caller; null when none is known.
    async fn email(&self) -> Option<&str> {
        self.row.email.as_deref()
    }

    /// Link to the caller's account on the ATProtocol network; null when none was ever made.
    async fn bluesky_link(&self) -> Option<BlueskyLink> {
        self.row.preferences_bluesky.clone().map(BlueskyLink)
    }

    /// Where the caller is signed in, at most 100, the one that was used last first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(SIFT, None, None))]
    async fn sessions(&self, ctx: &Context<'_>) -> Fallible<Vec<Session>> {
        Some(sessions(ctx, &self.person).await)
    }

    /// Public events that the caller organises, soonest first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
    ) -> Fallible<EventConnection> {
        Some(event::of_organizer(ctx, self.row.id, &Wanted { first, after, last, before }).await)
    }

    /// Answers that the caller gave to public events, the latest change first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn rsvps(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
    ) -> Fallible<RsvpConnection> {
        Some(answers(ctx, self.row.id, &Wanted { first, after, last, before }).await)
    }

    /// Shadow accounts that are the caller's and can be claimed.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(SIFT, None, None))]
    async fn claimable_accounts(&self, ctx: &Context<'_>) -> Fallible<Vec<ShadowAccount>> {
        Some(claimable(ctx, &self.row).await)
    }
}

/// Link between a member and an account of the ATProtocol network.
#[derive(Clone, Debug)]
pub(crate) struct BlueskyLink(pub(super) Bluesky);

/// Link between a member and an account of the ATProtocol network.
#[Object]
impl BlueskyLink {
    /// Decentralised identifier.
    async fn did(&self) -> Did {
        self.0.did.as_str().into()
    }

    /// Handle at the latest sign-in; null unless it was verified then.
    async fn handle(&self) -> Option<Handle> {
        self.0.handle.as_deref().map(Handle::from)
    }

    /// Picture.
    async fn avatar(&self) -> Option<Url> {
        self.0.avatar.as_deref().map(Url::from)
    }

    /// The link is in force; nothing is written to the network otherwise.
    async fn connected(&self) -> bool {
        self.0.connected
    }

    /// New events are published without asking.
    async fn auto_post(&self) -> bool {
        self.0.auto_post
    }

    /// When the link was made.
    async fn connected_at(&self) -> DateTime {
        self.0.connected_at.into()
    }

    /// When it was cut; null while it is in force.
    async fn disconnected_at(&self) -> Option<DateTime> {
        self.0.disconnected_at.map(DateTime)
    }

    /// What the account allows now, as its server said it last. Empty while nothing can be done there: the link is cut, or its
    /// session has ended and the member has to sign in again.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(SIFT, None, None))]
    async fn permissions(&self, ctx: &Context<'_>) -> Fallible<Vec<BlueskyPermission>> {
        Some(permissions(ctx, &self.0).await)
    }
}

/// One device or program on which the caller is signed in.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct Session {
    /// Names the session to `revokeSession`; no object can be found by it.
    id: ID,
    /// How it is shown.
    kind: SessionKind,
    /// What the program called itself.
    user_agent: Option<String>,
    /// This request showed it.
    is_current: bool,
    /// Signed in.
    created_at: DateTime,
    /// Latest use, to about a minute.
    last_used_at: DateTime,
    /// When it ends unless it is used before.
    expires_at: DateTime,
}

impl Session {
    fn of(row: SessionRow, person: &Person) -> Self {
        Self {
            id: id::encode(Kind::Session, row.id),
            kind: row.kind.into(),
            is_current: person.session == Some(row.id),
            user_agent: row.user_agent,
            created_at: row.created_at.into(),
            last_used_at: row.last_used_at.into(),
            expires_at: row.expires_at.into(),
        }
    }
}

/// Input of `revokeSession`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct RevokeSessionInput {
    /// Session to end; all of the caller's when it is left out.
    session_id: Option<ID>,
}

payload! {
    /// Result of `revokeSession`.
    RevokeSessionPayload {
        /// How many sessions were open and ended.
        revoked_count: Option<i32>,
    }
}

/// Entry points for the signed-in caller.
#[derive(Debug, Default)]
pub(crate) struct ViewerQuery;

/// Entry points for the signed-in caller.
#[Object]
impl ViewerQuery {
    /// The signed-in caller; null when nobody is signed in.
    async fn viewer(&self, ctx: &Context<'_>) -> Fallible<Viewer> {
        find(ctx).await.transpose()
    }
}

/// What the signed-in caller does with their sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionMutation;

/// What the signed-in caller does with their sessions.
#[Object]
impl SessionMutation {
    /// End a session of the caller, or all of them: it opens nothing from the next request on, and what it has open ends
    /// within seconds.
    #[graphql(
        directive = access::apply(vec![AccessScope::User]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn revoke_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: RevokeSessionInput,
    ) -> Fallible<RevokeSessionPayload> {
        Some(revoke(ctx, input).await)
    }
}

async fn find(ctx: &Context<'_>) -> Result<Option<Viewer>, Failure> {
    let Ok(person) = ctx.actor().person() else { return Ok(None) };
    let app = ctx.app()?;
    // An operator in another tenant has no account there.
    let row = member::find(app.db.read(), person.user).await?.filter(|row| row.tenant_id == app.tenant.id());
    Ok(row.map(|row| Viewer { person: person.clone(), row: Arc::new(row) }))
}

/// The member, who has signed in and so is one.
pub(super) async fn load(ctx: &Context<'_>, user: i64) -> Result<User, Failure> {
    match Account::load(ctx, user).await? {
        Account::User(user) => Ok(user),
        Account::ShadowAccount(_) => Err(Error::bug(anyhow!("member {user} is a shadow")).into()),
    }
}

async fn sessions(ctx: &Context<'_>, person: &Person) -> Result<Vec<Session>, Failure> {
    let rows = session::list(ctx.app()?, person.user).await?;
    Ok(rows.into_iter().map(|row| Session::of(row, person)).collect())
}

async fn permissions(ctx: &Context<'_>, link: &Bluesky) -> Result<Vec<BlueskyPermission>, Failure> {
    if !link.connected {
        return Ok(Vec::new());
    }
    let abilities = login::abilities(ctx.app()?, &syntax::Did::parse(&link.did).map_err(Error::from)?).await?;
    Ok(abilities.granted().into_iter().map(BlueskyPermission::from).collect())
}

async fn answers(ctx: &Context<'_>, user: i64, wanted: &Wanted) -> Result<RsvpConnection, Failure> {
    let filter = crate::domain::rsvp::Filter { users: Some(vec![user]), ..Default::default() };
    rsvp::list_of(ctx, wanted, filter).await
}

async fn claimable(ctx: &Context<'_>, row: &user::Model) -> Result<Vec<ShadowAccount>, Failure> {
    let app = ctx.app()?;
    let Some(link) = row.preferences_bluesky.as_ref().filter(|link| link.connected) else { return Ok(Vec::new()) };
    let shadow = account::find_shadow(app.db.read(), app.tenant, &link.did).await?;
    Ok(shadow.into_iter().map(|shadow| ShadowAccount::of(Arc::new(shadow))).collect())
}

async fn revoke(ctx: &Context<'_>, input: RevokeSessionInput) -> Result<RevokeSessionPayload, Failure> {
    let app = ctx.app()?;
    let revoke = async {
        let person = ctx.actor().person()?;
        let id = input.session_id.as_ref().map(|id| id::decode_as(Kind::Session, id, "sessionId")).transpose()?;
        account::sign_out(app, person.user, id).await
    };
    let (count, user_errors) = outcome(revoke.await, &["input"])?;
    let revoked_count = count.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
    Ok(RevokeSessionPayload { revoked_count, user_errors, query: Query::default() })
}
