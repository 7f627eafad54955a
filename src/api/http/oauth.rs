//! What authorization servers read about the gateway: its metadata as a client, and its public keys.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;

use super::problem::Problem;
use crate::{
    app::App,
    error::Code,
    infra::atproto::oauth::{KEYS_PATH, METADATA_PATH},
};

/// Servers ask again soon after a key was exchanged.
const CACHED: &str = "public, max-age=300";

pub(super) fn router(app: App) -> Router {
    Router::new().route(METADATA_PATH, get(metadata)).route(KEYS_PATH, get(keys)).with_state(app)
}

async fn metadata(State(app): State<App>) -> Response {
    published(app.oauth.client().metadata().cloned())
}

async fn keys(State(app): State<App>) -> Response {
    published(app.oauth.client().public_keys())
}

/// A public client has nothing to publish.
fn published(document: Option<Value>) -> Response {
    match document {
        Some(document) => ([(header::CACHE_CONTROL, HeaderValue::from_static(CACHED))], Json(document)).into_response(),
        None => Problem::new(StatusCode::NOT_FOUND, Code::NotFound, "this gateway has no public URL").into_response(),
    }
}
