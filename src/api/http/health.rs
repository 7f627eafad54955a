//! Health, for whoever decides to restart the process or to send it requests.
//!
//! A process needs its database. It needs the broker if it reads streams or processes messages and nothing else: with the role
//! `api` beside them, it goes on answering without, and with `api` alone it does not look at the broker: what it is brought goes
//! through the pipeline at once, and only a dead letter that is tried again goes into a queue. Nobody needs Redis. What is away without being needed makes the process
//! *degraded*: it stays ready.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    app::App,
    error::{Error, Result},
    infra::{queue::Broker, resilience::Dependency},
};

/// Time for each of the parts to answer in.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer holds: however many ask, the parts are looked at this often.
const FRESH: Duration = Duration::from_secs(1);

/// What the probes of a process look at and show.
#[derive(Clone)]
pub struct Probes {
    /// The figures.
    pub metrics: PrometheusHandle,
    /// The broker, where this process uses one.
    pub broker: Option<Broker>,
    /// Whether the process is of no use without its broker.
    pub needs_broker: bool,
}

/// Of a process without a broker.
impl From<PrometheusHandle> for Probes {
    fn from(metrics: PrometheusHandle) -> Self {
        Self { metrics, broker: None, needs_broker: false }
    }
}

#[derive(Clone)]
struct Vitals {
    app: App,
    probes: Probes,
    shutdown: CancellationToken,
    last: Arc<Mutex<Option<Look>>>,
}

/// What was found, and when.
struct Look {
    at: Instant,
    parts: Vec<Part>,
}

/// How a part is.
#[derive(Clone, Copy)]
struct Part {
    dependency: Dependency,
    is_needed: bool,
    works: bool,
}

pub(super) fn router(app: App, probes: Probes, shutdown: CancellationToken) -> Router {
    Router::new()
        // The process answers: it need not be restarted, whatever else is away.
        .route("/health/live", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(figures))
        .with_state(Vitals { app, probes, shutdown, last: Arc::default() })
}

/// `{"status", "dependencies"}`: whether requests may come, and of each part whether it is `ok` or `down`. Why, the log says.
async fn ready(State(vitals): State<Vitals>) -> Response {
    // Who ends is not asked how the parts are.
    let ends = vitals.shutdown.is_cancelled();
    let parts = if ends { Vec::new() } else { vitals.look().await };
    let status = match parts.iter().filter(|part| !part.works).map(|part| part.is_needed).max() {
        _ if ends => "ending",
        None => "ok",
        Some(false) => "degraded",
        Some(true) => "down",
    };
    let told = |part: &Part| (part.dependency.as_str().to_owned(), if part.works { "ok" } else { "down" }.into());
    let dependencies: Map<String, Value> = parts.iter().map(told).collect();
    let body = json!({ "status": status, "dependencies": dependencies });
    let code = if matches!(status, "ok" | "degraded") { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The figures, with how the parts are now.
async fn figures(State(vitals): State<Vitals>) -> String {
    if !vitals.shutdown.is_cancelled() {
        vitals.look().await;
    }
    vitals.probes.metrics.render()
}

impl Vitals {
    /// How the parts are, as of now or a moment ago. Whoever asks while somebody looks gets what that one finds.
    async fn look(&self) -> Vec<Part> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return look.parts.clone();
        }
        let worked = |dependency| {
            last.iter().flat_map(|look| &look.parts).all(|part| part.dependency != dependency || part.works)
        };
        let worked = &worked;
        let looks = self.checks().into_iter().map(|(dependency, is_needed, check)| async move {
            let outcome = in_time(dependency, check).await;
            match &outcome {
                Err(error) if worked(dependency) => {
                    warn!(dependency = dependency.as_str(), is_needed, error = error.chain(), "not ready");
                }
                Ok(()) if !worked(dependency) => info!(dependency = dependency.as_str(), "ready again"),
                _ => {}
            }
            let works = outcome.is_ok();
            gauge!("gateway_ready", "dependency" => dependency.as_str()).set(if works { 1.0 } else { 0.0 });
            Part { dependency, is_needed, works }
        });
        let parts = join_all(looks).await;
        *last = Some(Look { at: Instant::now(), parts: parts.clone() });
        parts
    }

    /// Every part that is a server of its own, whether the process needs it, and how to find out about it.
    fn checks(&self) -> Vec<(Dependency, bool, BoxFuture<'_, Result<()>>)> {
        let Self { app, probes, .. } = self;
        let mut checks: Vec<(_, _, BoxFuture<'_, _>)> = vec![(Dependency::Database, true, Box::pin(app.db.check()))];
        if let Some(broker) = &probes.broker {
            checks.push((Dependency::Broker, probes.needs_broker, Box::pin(broker.check())));
        }
        if app.kv.is_remote() {
            checks.push((Dependency::Redis, false, Box::pin(app.kv.ping())));
        }
        checks
    }
}

async fn in_time(dependency: Dependency, check: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |_| Error::Unavailable {
        service: dependency.as_str(),
        source: anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()),
    };
    tokio::time::timeout(PATIENCE, check).await.map_err(late)?
}
