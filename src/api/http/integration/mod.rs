//! The integration API: events and answers over REST, in the form that OpenMeet's processors send. `/openapi.json`
//! describes it.
//!
//! What is answered with 202 is durable. A request is authenticated before its body is read. With an `Idempotency-Key` a
//! success is kept for a day and told again; without one, too, the same item twice changes nothing.

mod answer;
mod body;

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, header},
    middleware,
    response::Response,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use self::answer::Asked;
use super::{
    problem::Problem,
    trace::{self, traced},
};
use crate::{
    api::graphql,
    app::App,
    domain::{
        actor::{self, Shown},
        integration::{self, Kind, Receipt},
        key::ServiceKey,
    },
    error::{Error, Result},
};

/// The description, kept by hand; a test holds it against what is served.
const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn router(app: App) -> Router {
    let events = post(|app: State<App>, request: Request| one(Kind::Event, app, request));
    let rsvps = post(|app: State<App>, request: Request| one(Kind::Rsvp, app, request));
    Router::new()
        .route(
            "/api/integration/events",
            events.delete(|app: State<App>, query: Query<Named>, request: Request| {
                remove(Kind::Event, app, query, request)
            }),
        )
        .route(
            "/api/integration/rsvps",
            rsvps.delete(|app: State<App>, query: Query<Named>, request: Request| {
                remove(Kind::Rsvp, app, query, request)
            }),
        )
        .route(
            "/api/integration/events:batch",
            post(|app: State<App>, request: Request| batch(Kind::Event, app, request)),
        )
        .route(
            "/api/integration/rsvps:batch",
            post(|app: State<App>, request: Request| batch(Kind::Rsvp, app, request)),
        )
        .route("/api/integration/events/atproto/{did}/{collection}/{rkey}", delete(remove_record))
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route_layer(middleware::from_fn(traced))
        .with_state(app)
}

async fn one(kind: Kind, State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = authenticate(&app, &parts.headers).await?;
    let text = body::read(body, app.config.ingest.max_record_bytes).await?;
    let asked = Asked::new(&key, &parts, &text)?;
    if let Some(known) = asked.answered(&app).await? {
        return Ok(known);
    }
    integration::count(&app, &key, 1).await?;
    let receipts = integration::submit(&app, &key, kind, &[&text]).await?;
    let receipt = receipts.into_iter().next().unwrap_or_else(|| Err(Error::bug(anyhow::anyhow!("no receipt"))))?;
    Ok(asked.keep(&app, told(kind, &receipt)).await)
}

async fn batch(kind: Kind, State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = authenticate(&app, &parts.headers).await?;
    let text = body::read(body, body::BATCH_BYTES).await?;
    let items = body::items(&parts.headers, &text)?;
    let asked = Asked::new(&key, &parts, &text)?;
    if let Some(known) = asked.answered(&app).await? {
        return Ok(known);
    }
    integration::count(&app, &key, items.len()).await?;
    let receipts = integration::submit(&app, &key, kind, &items).await?;
    let failed = receipts.iter().filter(|receipt| receipt.is_err()).count();
    let results: Vec<Value> = receipts
        .into_iter()
        .enumerate()
        .map(|(index, receipt)| {
            let mut result = match receipt {
                Ok(receipt) => told(kind, &receipt),
                Err(error) => {
                    let mut problem = serde_json::to_value(Problem::from(error)).unwrap_or_default();
                    put(&mut problem, "success", false);
                    problem
                }
            };
            put(&mut result, "index", index);
            result
        })
        .collect();
    let message = format!("{} of {} accepted", results.len() - failed, results.len());
    let answer = json!({ "success": failed == 0, "message": message, "results": results });
    Ok(asked.keep(&app, answer).await)
}

/// What a delete is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    source_id: Option<String>,
    source_type: Option<String>,
}

async fn remove(
    kind: Kind,
    State(app): State<App>,
    Query(Named { source_id, source_type }): Query<Named>,
    request: Request,
) -> Result<Response, Problem> {
    let key = authenticate(&app, request.headers()).await?;
    let missing = |field| Error::invalid(field, "FIELD_MISSING", "it must be given");
    let id = source_id.ok_or_else(|| missing("sourceId"))?;
    let source = source_type.ok_or_else(|| missing("sourceType"))?;
    removed(&app, &key, kind, &source, &id).await
}

async fn remove_record(
    State(app): State<App>,
    Path((did, collection, rkey)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let key = authenticate(&app, request.headers()).await?;
    removed(&app, &key, Kind::Event, "bluesky", &format!("at://{did}/{collection}/{rkey}")).await
}

async fn removed(app: &App, key: &ServiceKey, kind: Kind, source: &str, id: &str) -> Result<Response, Problem> {
    integration::count(app, key, 1).await?;
    integration::remove(app, key, kind, source, id).await?;
    Ok(answer::accepted(&json!({ "success": true, "message": "deleted", "outcome": "deleted" })))
}

/// Whose key it is, and whether it may write to the tenant that is asked for.
async fn authenticate(app: &App, headers: &HeaderMap) -> Result<ServiceKey, Problem> {
    // What is no text opens nothing, and names no tenant.
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let shown = Shown { authorization: text("authorization"), cookie: None };
    let key = actor::identify(app, shown, text("x-tenant-id")).await?.into_key()?;
    trace::is_of(key.tenant, &key.prefix);
    Ok(key)
}

fn told(kind: Kind, receipt: &Receipt) -> Value {
    let outcome = receipt.outcome.as_str();
    let mut answer = json!({ "success": true, "message": outcome, "outcome": outcome, "slug": receipt.slug });
    if kind == Kind::Rsvp {
        put(&mut answer, "attendeeId", receipt.attendee.map(graphql::rsvp_id));
    }
    answer
}

fn put(answer: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}
