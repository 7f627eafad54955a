//! The root of reading, and objects by identifier.

use async_graphql::{Context, ID, Interface, MergedObject, Object};
use futures_util::future::join_all;

use super::{
    account::{self, Account, AccountQuery, ShadowAccount, User},
    admin::{AdminQuery, IngestFailure, ServiceKey},
    change::ChangeQuery,
    context::Surroundings,
    directives::{cost, semanticNonNull},
    error::{Failure, Fallible},
    event::Event,
    events::EventQuery,
    id::{self, Kind},
    info::ServiceQuery,
    rsvp::{Rsvp, RsvpQuery},
    viewer::ViewerQuery,
};
use crate::{domain::key, error::Error};

/// Most objects that one call may ask for.
const MAX_NODES: usize = 100;

/// Entry points for reading.
#[derive(Debug, Default, MergedObject)]
pub struct Query(NodeQuery, EventQuery, RsvpQuery, AccountQuery, ChangeQuery, ServiceQuery, AdminQuery, ViewerQuery);

/// An object with a globally unique, opaque identifier.
#[derive(Clone, Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Opaque global identifier; stable for the life of the object."))]
pub(crate) enum Node {
    /// An event.
    Event(Event),
    /// An answer.
    Rsvp(Rsvp),
    /// A member.
    User(User),
    /// A shadow account.
    ShadowAccount(ShadowAccount),
    /// A message that could not be applied.
    IngestFailure(IngestFailure),
    /// A service key.
    ServiceKey(ServiceKey),
}

/// Entry points for reading objects by identifier.
#[derive(Debug, Default)]
pub(crate) struct NodeQuery;

/// Entry points for reading objects by identifier.
#[Object]
impl NodeQuery {
    /// Object by global identifier; null when missing or not visible to the caller.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "Global identifier.")] id: ID) -> Fallible<Node> {
        find(ctx, &id, "id").await.transpose()
    }

    /// Objects by global identifier, in the order asked for; at most 100. Missing and invisible ones are null.
    #[graphql(
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(1, Some(vec!["ids".to_owned()]), None)
    )]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Global identifiers.")] ids: Vec<ID>,
    ) -> Fallible<Vec<Fallible<Node>>> {
        if ids.len() > MAX_NODES {
            let why = format!("at most {MAX_NODES} identifiers");
            return Some(Err(Error::invalid("ids", "TOO_MANY_VALUES", why).into()));
        }
        let nodes = join_all(ids.iter().map(|id| find(ctx, id, "ids"))).await;
        Some(Ok(nodes.into_iter().map(Result::transpose).collect()))
    }
}

async fn find(ctx: &Context<'_>, id: &ID, field: &'static str) -> Result<Option<Node>, Failure> {
    let loaders = ctx.loaders()?;
    Ok(match id::decode(id, field)? {
        (Kind::Event, key) => loaders.event(key).await?.map(|row| Node::Event(Event(row))),
        (Kind::Rsvp, key) => loaders.rsvp(key).await?.map(|row| Node::Rsvp(Rsvp(row))),
        (Kind::Account, key) => account::visible(ctx, key).await?.map(|account| match account {
            Account::User(user) => Node::User(user),
            Account::ShadowAccount(shadow) => Node::ShadowAccount(shadow),
        }),
        // What only administrators may see is not there for others.
        (Kind::Failure, _) if ctx.actor().administers(ctx.app()?.network).is_err() => None,
        // Nobody finds a session by its identifier.
        (Kind::Session, _) => None,
        (Kind::Failure, key) => loaders.failure(key).await?.map(|row| Node::IngestFailure(IngestFailure::of(row))),
        (Kind::Key, _) if ctx.actor().administers_own_tenant().is_err() => None,
        (Kind::Key, key) => {
            let found = key::find(ctx.app()?, ctx.actor(), key).await?;
            found.map(|row| Node::ServiceKey(ServiceKey::of(row)))
        }
    })
}
