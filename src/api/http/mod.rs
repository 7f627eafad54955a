//! Plain HTTP: the integration API, GraphiQL, the schema's text, health, metrics. GraphQL itself is served by `api/graphql/transport`.

mod assets;
pub mod cookie;
mod health;
mod integration;
mod login;
mod oauth;
mod problem;
mod session;
pub(crate) mod trace;

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Redirect},
    routing::get,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

pub use self::health::Probes;
use super::graphql;
use crate::{app::App, error::Result};

/// Everything that the process serves. When the token is cancelled, sockets and streams are closed; `open` counts those
/// that have not ended yet.
pub fn router(app: &App, seen: impl Into<Probes>, shutdown: CancellationToken, open: TaskTracker) -> Result<Router> {
    let pages = Router::new()
        .route("/schema.graphql", get(schema))
        .merge(if app.config.graphql.graphiql { assets::router() } else { Router::new() })
        // Bodies that are worth it; streams and sockets of /graphql are left alone.
        .layer(CompressionLayer::new());
    let home = if app.config.graphql.graphiql { "/graphiql" } else { "/schema.graphql" };
    Ok(Router::new()
        .route("/", get(move || async move { Redirect::temporary(home) }))
        .merge(pages)
        .merge(integration::router(app.clone()))
        .merge(login::router(app.clone()))
        .merge(oauth::router(app.clone()))
        .merge(session::router(app))
        .merge(graphql::router(app, shutdown.clone(), open)?)
        .merge(probes(app, seen, shutdown))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(problem::panicked)))
}

/// What a process without the API serves too: health and metrics.
pub fn probes(app: &App, seen: impl Into<Probes>, shutdown: CancellationToken) -> Router {
    health::router(app.clone(), seen.into(), shutdown)
}

async fn schema() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/graphql; charset=utf-8")], graphql::sdl())
}
