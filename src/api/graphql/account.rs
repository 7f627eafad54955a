//! Members and shadow accounts.

use std::sync::Arc;

use anyhow::anyhow;
use async_graphql::{Context, ID, InputObject, Interface, Object, OneofObject};

use super::{
    context::Surroundings,
    directives::{SCAN, cost, page_size, semanticNonNull},
    error::{Failure, Fallible},
    event::{self, EventConnection},
    filter::DateTimeRange,
    id::{self, Kind},
    page::{Total, connection},
    scalars::{DateTime, Did, Handle},
};
use crate::{
    domain::{
        account::{self, ShadowFilter},
        page::Wanted,
    },
    error::Error,
};

/// Someone who organises or attends: a member or a shadow account.
#[derive(Clone, Debug, Interface)]
#[graphql(
    field(name = "id", ty = "ID", desc = "Opaque global identifier; stable for the life of the object."),
    field(
        name = "display_name",
        ty = "String",
        desc = "Name to show: the handle, else the decentralised identifier; for a site its name."
    ),
    field(name = "did", ty = "Option<Did>", desc = "Decentralised identifier, when the account is linked to one."),
    field(name = "handle", ty = "Option<Handle>", desc = "Current handle; null unless it is verified."),
    field(name = "is_shadow", ty = "bool", desc = "True for provisional accounts that nobody has claimed.")
)]
pub(crate) enum Account {
    /// A member.
    User(User),
    /// A shadow account.
    ShadowAccount(ShadowAccount),
}

impl From<Arc<account::Account>> for Account {
    fn from(account: Arc<account::Account>) -> Self {
        if account.user.is_shadow_account {
            Self::ShadowAccount(ShadowAccount(account))
        } else {
            Self::User(User(account))
        }
    }
}

impl Account {
    /// The account that something visible belongs to.
    pub(super) async fn load(ctx: &Context<'_>, user: i64) -> Result<Self, Failure> {
        let account = ctx.loaders()?.account(user).await?;
        account.map(Self::from).ok_or_else(|| Error::bug(anyhow!("account {user} is gone")).into())
    }
}

/// A member of OpenMeet.
#[derive(Clone, Debug)]
pub(crate) struct User(Arc<account::Account>);

/// A member of OpenMeet.
#[Object]
impl User {
    /// Opaque global identifier; stable for the life of the object.
    pub(super) async fn id(&self) -> ID {
        id::encode(Kind::Account, self.0.user.id)
    }

    /// Name to show: the handle, else the decentralised identifier; for a site its name.
    async fn display_name(&self) -> &str {
        self.0.display_name()
    }

    /// Decentralised identifier, when linked.
    async fn did(&self) -> Option<Did> {
        self.0.user.did.as_deref().map(Did::from)
    }

    /// Current handle; null unless it is verified.
    async fn handle(&self) -> Option<Handle> {
        self.0.handle().map(Handle::from)
    }

    /// Always false.
    async fn is_shadow(&self) -> bool {
        false
    }
}

/// A provisional account for an author who has not joined OpenMeet, or for a site that events come from.
#[derive(Clone, Debug)]
pub(crate) struct ShadowAccount(Arc<account::Account>);

connection! {
    /// Page of shadow accounts.
    ShadowAccountConnection,
    /// Shadow account in a page.
    ShadowAccountEdge,
    /// Position of the account.
    /// The account.
    ShadowAccount
}

impl ShadowAccount {
    /// The account, which is a shadow.
    pub(super) fn of(account: Arc<account::Account>) -> Self {
        Self(account)
    }
}

/// A provisional account for an author who has not joined OpenMeet, or for a site that events come from.
#[Object]
impl ShadowAccount {
    /// Opaque global identifier; stable for the life of the object, also when it is claimed.
    pub(super) async fn id(&self) -> ID {
        id::encode(Kind::Account, self.0.user.id)
    }

    /// Name to show: the handle, else the decentralised identifier; for a site its name.
    async fn display_name(&self) -> &str {
        self.0.display_name()
    }

    /// Decentralised identifier of the author; null for a site.
    async fn did(&self) -> Option<Did> {
        self.0.user.did.as_deref().map(Did::from)
    }

    /// Current handle; null unless it is verified.
    async fn handle(&self) -> Option<Handle> {
        self.0.handle().map(Handle::from)
    }

    /// Always true.
    async fn is_shadow(&self) -> bool {
        true
    }

    /// Public events attributed to the account, soonest first.
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
        Some(event::of_organizer(ctx, self.0.user.id, &Wanted { first, after, last, before }).await)
    }

    /// First seen by the pipeline.
    fn created_at(&self) -> DateTime {
        self.0.user.created_at.into()
    }
}

/// Exactly one key of a shadow account.
#[derive(Clone, Debug, OneofObject)]
pub(crate) enum ShadowAccountLookup {
    /// Global identifier.
    Id(ID),
    /// Decentralised identifier of the author.
    Did(Did),
}

/// Conditions on shadow accounts; all given conditions must hold.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct ShadowAccountFilter {
    /// Verified handle starts with.
    handle_prefix: Option<String>,
    /// Created inside the range.
    created_at: Option<DateTimeRange>,
    /// Has at least this many public events.
    #[graphql(directive = cost::apply(SCAN, None, None))]
    minimum_event_count: Option<i32>,
}

impl From<ShadowAccountFilter> for ShadowFilter {
    fn from(filter: ShadowAccountFilter) -> Self {
        Self {
            handle_prefix: filter.handle_prefix.map(|prefix| prefix.to_ascii_lowercase()),
            created_at: filter.created_at.map(Into::into),
            // Everybody has at least a negative number of events.
            minimum_event_count: filter.minimum_event_count.and_then(|minimum| u32::try_from(minimum).ok()),
        }
    }
}

/// Entry points for reading accounts.
#[derive(Debug, Default)]
pub(crate) struct AccountQuery;

/// Entry points for reading accounts.
#[Object]
impl AccountQuery {
    /// One shadow account by exactly one of its keys; null when missing, claimed, or not active on the network.
    async fn shadow_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which shadow account.")] by: ShadowAccountLookup,
    ) -> Fallible<ShadowAccount> {
        find(ctx, by).await.transpose()
    }

    /// Shadow accounts created for authors who have not joined OpenMeet, newest first.
    #[graphql(directive = semanticNonNull::apply(vec![0]), directive = cost::apply(1, Some(page_size()), None))]
    #[expect(clippy::too_many_arguments, reason = "arguments of the field")]
    async fn shadow_accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Page size, 1 to 100; 20 when neither `first` nor `last` is given.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Page size counted from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Conditions, all of which must hold.")] filter: Option<ShadowAccountFilter>,
    ) -> Fallible<ShadowAccountConnection> {
        Some(list(ctx, &Wanted { first, after, last, before }, filter).await)
    }
}

async fn find(ctx: &Context<'_>, by: ShadowAccountLookup) -> Result<Option<ShadowAccount>, Failure> {
    let account = match by {
        ShadowAccountLookup::Id(id) => visible(ctx, id::decode_as(Kind::Account, &id, "id")?).await?,
        ShadowAccountLookup::Did(did) => {
            let app = ctx.app()?;
            account::find_shadow(app.db.read(), app.tenant, &did.0).await?.map(|row| Account::from(Arc::new(row)))
        }
    };
    Ok(account.and_then(|account| match account {
        Account::ShadowAccount(account) => Some(account),
        Account::User(_) => None,
    }))
}

/// The account with this id, if it may be shown by itself.
pub(super) async fn visible(ctx: &Context<'_>, user: i64) -> Result<Option<Account>, Failure> {
    let account = ctx.loaders()?.account(user).await?;
    Ok(account.filter(|account| account.is_visible()).map(Account::from))
}

async fn list(
    ctx: &Context<'_>,
    wanted: &Wanted,
    filter: Option<ShadowAccountFilter>,
) -> Result<ShadowAccountConnection, Failure> {
    let app = ctx.app()?;
    let filter = filter.map(ShadowFilter::from).unwrap_or_default();
    let order = account::shadow_order();
    let slice = order.slice(wanted, app.config.graphql.max_page_size)?;
    let page = account::shadows(app.db.read(), app.tenant, &filter, &slice).await?;
    let edges = page.rows.iter().map(|row| (order.cursor(&row.user), ShadowAccount(Arc::clone(row)))).collect();
    Ok(ShadowAccountConnection::new(edges, (page.has_next, page.has_previous), Total::Shadows(Box::new(filter))))
}
