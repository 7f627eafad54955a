//! What this service is and what it allows.

use std::sync::LazyLock;

use async_graphql::{ComplexObject, Context, Object, SimpleObject};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{
    context::Surroundings,
    directives::semanticNonNull,
    error::{Failure, Fallible},
    scalars::{Nsid, StreamCursor},
};
use crate::{
    config::Config,
    domain::{change, source},
};

/// The schema never changes while the program runs.
static SCHEMA_HASH: LazyLock<String> = LazyLock::new(|| HEXLOWER.encode(&Sha256::digest(super::sdl())));

/// Limits, versions and capabilities.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub(crate) struct ServiceInfo {
    /// Version of the gateway.
    version: &'static str,
    /// SHA-256 of the printed schema, in hexadecimal.
    schema_hash: &'static str,
    /// Record collections that are read.
    collections: Vec<Nsid>,
    /// Limits for one operation.
    limits: OperationLimits,
}

/// Limits for one operation.
#[derive(Clone, Copy, Debug, SimpleObject)]
#[expect(clippy::struct_field_names, reason = "the names of the schema")]
pub(crate) struct OperationLimits {
    /// Greatest depth.
    max_depth: i32,
    /// Greatest cost.
    max_cost: i32,
    /// Most aliases.
    max_aliases: i32,
    /// Most root fields.
    max_root_fields: i32,
    /// Most tokens in a document.
    max_tokens: i32,
    /// Largest page.
    max_page_size: i32,
    /// Largest request body in bytes.
    max_body_bytes: i32,
}

impl OperationLimits {
    fn new(config: &Config) -> Self {
        /// A limit beyond what GraphQL can say is none that anybody meets.
        fn told(limit: impl TryInto<i32>) -> i32 {
            limit.try_into().unwrap_or(i32::MAX)
        }
        Self {
            max_depth: told(config.graphql.max_depth),
            max_cost: told(config.graphql.max_cost),
            max_aliases: told(config.graphql.max_aliases),
            max_root_fields: told(config.graphql.max_root_fields),
            max_tokens: told(config.graphql.max_tokens),
            max_page_size: told(config.graphql.max_page_size),
            max_body_bytes: told(config.http.max_body_bytes),
        }
    }
}

impl ServiceInfo {
    fn new(config: &Config) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            schema_hash: SCHEMA_HASH.as_str(),
            collections: source::COLLECTIONS.into_iter().map(Nsid::from).collect(),
            limits: OperationLimits::new(config),
        }
    }
}

#[ComplexObject]
impl ServiceInfo {
    /// Oldest change that can still be replayed; null while there is none.
    async fn oldest_cursor(&self, ctx: &Context<'_>) -> Fallible<StreamCursor> {
        oldest(ctx).await.transpose()
    }

    /// The end of the change log: where to begin to follow what happens from now on.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn newest_cursor(&self, ctx: &Context<'_>) -> Fallible<StreamCursor> {
        Some(newest(ctx).await)
    }
}

async fn newest(ctx: &Context<'_>) -> Result<StreamCursor, Failure> {
    let app = ctx.app()?;
    Ok(StreamCursor(change::head(app.db.read()).await?.to_string()))
}

async fn oldest(ctx: &Context<'_>) -> Result<Option<StreamCursor>, Failure> {
    let app = ctx.app()?;
    let page = change::page(app.db.read(), app.tenant, None, &change::Filter::default(), 1).await?;
    Ok(page.changes.first().map(|row| StreamCursor(change::Cursor::of(row).to_string())))
}

/// Entry points for reading about the service.
#[derive(Debug, Default)]
pub(crate) struct ServiceQuery;

/// Entry points for reading about the service.
#[Object]
impl ServiceQuery {
    /// Limits, versions and capabilities of this service.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn service_info(&self, ctx: &Context<'_>) -> Fallible<ServiceInfo> {
        Some(ctx.app().map(|app| ServiceInfo::new(&app.config)))
    }
}
