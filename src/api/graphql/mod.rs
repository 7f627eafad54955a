//! The GraphQL schema: types for what the domain finds, and resolvers that translate. No rule lives here.
//!
//! Conventions: non-null means that it cannot fail, and whatever can is a [`Fallible`](error::Fallible); lists are
//! connections with keyset cursors; what many objects of a level need is batched by [`loaders`]; every name has a
//! description. `schema.graphql` is printed from here.

mod account;
mod admin;
mod caller;
mod change;
mod context;
mod directives;
mod error;
mod event;
mod events;
mod filter;
pub(crate) mod guard;
mod id;
mod impartial;
mod info;
mod loaders;
mod location;
mod member;
mod mutation;
mod page;
mod payload;
mod profile;
mod query;
mod recheck;
mod record;
mod rsvp;
mod scalars;
mod sets;
mod subscription;
mod tenant;
pub(crate) mod transport;
mod user_error;
mod viewer;

use async_graphql::SDLExportOptions;
use axum::Router;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    caller::Callers,
    guard::{Guard, Limits},
    transport::{Endpoint, Origins, Settings},
};
pub use self::{
    context::RequestLoaders, impartial::IMPARTIAL, mutation::Mutation, query::Query, subscription::Subscription,
};
use crate::{app::App, error::Result};

/// The identifier of an answer, for the other doors.
pub(crate) fn rsvp_id(key: i64) -> String {
    id::encode(id::Kind::Rsvp, key).to_string()
}

/// The executable schema.
///
/// Every request needs [`RequestLoaders`] in its data, made for it alone; one of a caller who is somebody needs the
/// [`Actor`](crate::domain::actor::Actor), too.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// How deep the library may walk into a document; our own guard has bounded it before.
const RECURSION: usize = 64;

/// The schema over a running program.
pub fn schema(app: &App) -> Schema {
    let mut builder = build().data(app.clone());
    if !app.config.graphql.introspection {
        // A suggestion would tell what introspection does not.
        builder = builder.disable_introspection().disable_suggestions();
    }
    builder.finish()
}

/// `/graphql`, in all its transports. When the token is cancelled, sockets and streams are closed; `open` counts those
/// that have not ended yet.
///
/// Errors: [`Error::Bug`](crate::error::Error::Bug) if what the schema prints is no schema; a test holds that it is.
pub(crate) fn router(app: &App, shutdown: CancellationToken, open: TaskTracker) -> Result<Router> {
    transport::describe_metrics();
    let config = &app.config;
    let limits = Limits {
        max_depth: config.graphql.max_depth as u64,
        max_cost: config.graphql.max_cost,
        max_aliases: config.graphql.max_aliases as u64,
        max_root_fields: config.graphql.max_root_fields as u64,
        max_tokens: config.graphql.max_tokens,
        // A page of the change log may be longer than that of a list.
        max_page_size: u64::from(config.graphql.max_page_size).max(change::MAX_CHANGES.unsigned_abs().into()),
        max_body_bytes: config.http.max_body_bytes,
        ..Limits::default()
    };
    let settings = Settings {
        origins: Origins { allowed: config.http.allowed_origins.clone() },
        max_sockets: config.graphql.max_sockets,
        socket_operations: config.graphql.socket_operations,
        max_operations: config.graphql.max_operations,
        connections: config.database.max_connections as usize,
        operation_timeout: config.graphql.operation_timeout(),
        shared: &[change::SHARED],
        named_operations: config.graphql.named_operations.clone(),
        ..Settings::default()
    };
    let guard = Guard::new(&sdl(), scalars::ACCEPTS, limits)?.with_impartial(IMPARTIAL);
    let choose = axum::middleware::from_fn_with_state(app.clone(), tenant::choose);
    Ok(transport::router(Endpoint::new(schema(app), guard, Callers::new(app), settings, (shutdown, open)), |methods| {
        methods.layer(choose)
    }))
}

/// The schema as text; needs no running program.
pub fn sdl() -> String {
    let options = SDLExportOptions::new().include_specified_by().prefer_single_line_descriptions().use_space_ident();
    build().finish().sdl_with_options(options)
}

fn build() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .register_output_type::<query::Node>()
        .register_output_type::<account::Account>()
        .register_output_type::<profile::BlueskyProfile>()
        .register_output_type::<user_error::UserError>()
        .limit_recursive_depth(RECURSION)
}
