//! Service keys.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object};
use entities::service_key::Model;

use crate::{
    api::graphql::{
        context::Surroundings,
        directives::{AccessScope, SIFT, access, cost, semanticNonNull},
        error::{Failure, Fallible},
        id::{self, Kind},
        page::{Total, connection},
        payload::payload,
        query::Query,
        scalars::DateTime,
        sets::SourceType,
        user_error::outcome,
    },
    domain::{
        key::{self, Named},
        page::Wanted,
    },
};

/// A key that programs show to bring events and answers, or to administer. The key itself is known to nobody but whoever
/// made it.
#[derive(Clone, Debug)]
pub(crate) struct ServiceKey(Arc<Model>);

connection! {
    /// Page of service keys.
    ServiceKeyConnection,
    /// Service key in a page.
    ServiceKeyEdge,
    /// Position of the key.
    /// The key.
    ServiceKey
}

impl ServiceKey {
    /// The key of a row.
    pub(in crate::api::graphql) fn of(row: Model) -> Self {
        Self(Arc::new(row))
    }
}

/// A key that programs show to bring events and answers, or to administer. The key itself is known to nobody but whoever
/// made it.
#[Object]
impl ServiceKey {
    /// Opaque global identifier; stable for the life of the object.
    pub(in crate::api::graphql) async fn id(&self) -> ID {
        id::encode(Kind::Key, self.0.id)
    }

    /// The part of the key that is no secret, which names it to people and in logs.
    async fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// What it is for.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Systems of origin that it speaks for.
    async fn sources(&self) -> Vec<SourceType> {
        key::sources_of(&self.0).into_iter().map(Into::into).collect()
    }

    /// Whether it administers the tenant.
    async fn is_admin(&self) -> bool {
        self.0.is_admin
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// Latest use, to about an hour; null before the first one.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }

    /// When it was revoked; null while it opens.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(DateTime)
    }
}

/// Input of `createServiceKey`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct CreateServiceKeyInput {
    /// What it is for: one line of 1 to 100 characters.
    name: String,
    /// Systems of origin that it speaks for, `OPENMEET` not among them; at least one, unless it administers.
    #[graphql(default)]
    sources: Vec<SourceType>,
    /// Whether it administers the tenant, and so may make further keys of this kind.
    #[graphql(default)]
    is_admin: bool,
}

/// Input of `revokeServiceKey`.
#[derive(Clone, Debug, InputObject)]
pub(crate) struct RevokeServiceKeyInput {
    /// Key to revoke.
    service_key_id: ID,
}

payload! {
    /// Result of `createServiceKey`.
    CreateServiceKeyPayload {
        /// The key itself. It is told now and never again: only its hash is kept.
        secret: Option<String>,
        /// What is kept of it.
        service_key: Option<ServiceKey>,
    }
}

payload! {
    /// Result of `revokeServiceKey`.
    RevokeServiceKeyPayload {
        /// The key.
        service_key: Option<ServiceKey>,
    }
}

/// Making and revoking keys.
#[derive(Debug, Default)]
pub(crate) struct KeyMutation;

/// Making and revoking keys.
#[Object]
impl KeyMutation {
    /// Make a service key of the tenant that the caller administers.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn create_service_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: CreateServiceKeyInput,
    ) -> Fallible<CreateServiceKeyPayload> {
        Some(create(ctx, input).await)
    }

    /// Revoke a service key: it opens nothing from the next request on, and what it has open ends within seconds. One that
    /// was revoked before stays as it is.
    #[graphql(
        directive = access::apply(vec![AccessScope::Admin]),
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(SIFT, None, None)
    )]
    async fn revoke_service_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Input.")] input: RevokeServiceKeyInput,
    ) -> Fallible<RevokeServiceKeyPayload> {
        Some(revoke(ctx, input).await)
    }
}

async fn create(ctx: &Context<'_>, input: CreateServiceKeyInput) -> Result<CreateServiceKeyPayload, Failure> {
    let CreateServiceKeyInput { name, sources, is_admin } = input;
    let sources = sources.into_iter().map(Into::into).collect();
    let wanted = key::Wanted { name, tenants: Vec::new(), sources, is_admin };
    let (made, user_errors) = outcome(key::create(ctx.app()?, ctx.actor(), &wanted).await, &["input"])?;
    let (secret, service_key) = made.map(|made| (made.text, ServiceKey::of(made.row))).unzip();
    Ok(CreateServiceKeyPayload { secret, service_key, user_errors, query: Query::default() })
}

async fn revoke(ctx: &Context<'_>, input: RevokeServiceKeyInput) -> Result<RevokeServiceKeyPayload, Failure> {
    let app = ctx.app()?;
    let revoke = async {
        let id = id::decode_as(Kind::Key, &input.service_key_id, "serviceKeyId")?;
        key::revoke(app, ctx.actor(), Named::Id(id)).await
    };
    let (row, user_errors) = outcome(revoke.await, &["input"])?;
    let service_key = row.map(ServiceKey::of);
    Ok(RevokeServiceKeyPayload { service_key, user_errors, query: Query::default() })
}

/// A page of keys.
pub(super) async fn list(ctx: &Context<'_>, wanted: &Wanted) -> Result<ServiceKeyConnection, Failure> {
    let app = ctx.app()?;
    let order = key::order();
    let slice = order.slice(wanted, app.config.graphql.max_page_size)?;
    let page = key::page(app, ctx.actor(), &slice).await?;
    let edges = page.rows.iter().map(|row| (order.cursor(row), ServiceKey(Arc::clone(row)))).collect();
    Ok(ServiceKeyConnection::new(edges, (page.has_next, page.has_previous), Total::Keys))
}
