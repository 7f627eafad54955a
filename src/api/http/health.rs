//! Health, for whoever decides to restart the process or to send it requests.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::problem::Problem;
use crate::app::App;

#[derive(Clone)]
struct Vitals {
    app: App,
    shutdown: CancellationToken,
}

pub(super) fn router(app: App, shutdown: CancellationToken) -> Router {
    Router::new()
        // The process answers: it need not be restarted, whatever else is away.
        .route("/health/live", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/health/ready", get(ready))
        .with_state(Vitals { app, shutdown })
}

async fn ready(State(vitals): State<Vitals>) -> Response {
    let unavailable = |title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", title);
    if vitals.shutdown.is_cancelled() {
        return unavailable("shutting down").into_response();
    }
    match vitals.app.db.ping().await {
        Ok(()) => Json(json!({ "status": "ok", "database": "ok" })).into_response(),
        Err(error) => {
            debug!(error = error.chain(), "not ready");
            unavailable("not ready").with_detail("the database is away").into_response()
        }
    }
}
