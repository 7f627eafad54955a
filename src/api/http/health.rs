//! Health, for whoever decides to restart the process or to send it requests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    app::App,
    error::{Error, Result},
};

/// Time for each of the parts to answer in.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer holds: however many ask, the parts are looked at this often.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Vitals {
    app: App,
    shutdown: CancellationToken,
    last: Arc<Mutex<Option<Look>>>,
}

/// What was found, and when.
struct Look {
    at: Instant,
    works: BTreeMap<&'static str, bool>,
}

pub(super) fn router(app: App, shutdown: CancellationToken) -> Router {
    Router::new()
        // The process answers: it need not be restarted, whatever else is away.
        .route("/health/live", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/health/ready", get(ready))
        .with_state(Vitals { app, shutdown, last: Arc::default() })
}

/// `{"status", "dependencies"}`: whether requests may come, and of each part without which they would fail whether it is
/// `ok` or `down`. Why, the log says.
async fn ready(State(vitals): State<Vitals>) -> Response {
    // Who ends is not asked how the parts are.
    let ends = vitals.shutdown.is_cancelled();
    let parts = if ends { BTreeMap::new() } else { vitals.look().await };
    let status = match (ends, parts.values().all(|works| *works)) {
        (true, _) => "ending",
        (false, true) => "ok",
        (false, false) => "down",
    };
    let dependencies: BTreeMap<_, _> =
        parts.into_iter().map(|(name, works)| (name, if works { "ok" } else { "down" })).collect();
    let body = json!({ "status": status, "dependencies": dependencies });
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

impl Vitals {
    /// How the parts are, as of now or a moment ago. Whoever asks while somebody looks gets what that one finds.
    async fn look(&self) -> BTreeMap<&'static str, bool> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return look.works.clone();
        }
        let mut works = BTreeMap::new();
        for (name, outcome) in dependencies(&self.app).await {
            let before = last.as_ref().is_none_or(|look| look.works.get(name) != Some(&false));
            match &outcome {
                Err(error) if before => warn!(dependency = name, error = error.chain(), "not ready"),
                Ok(()) if !before => info!(dependency = name, "ready again"),
                _ => {}
            }
            works.insert(name, outcome.is_ok());
        }
        *last = Some(Look { at: Instant::now(), works: works.clone() });
        works
    }
}

/// Every part without which requests fail, with what it says.
async fn dependencies(app: &App) -> Vec<(&'static str, Result<()>)> {
    let database = in_time("database", app.db.check()).await;
    vec![("database", database)]
}

async fn in_time(service: &'static str, check: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |_| Error::Unavailable { service, source: anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()) };
    tokio::time::timeout(PATIENCE, check).await.map_err(late)?
}
