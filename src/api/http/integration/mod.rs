//! The integration API: events and answers over REST, in the form that OpenMeet's processors send. `/openapi.json`
//! describes it.
//!
//! What is answered with 202 is durable. A request is authenticated before anything else of it is read. With an
//! `Idempotency-Key` a success is kept for a day and told again; without one, too, the same item twice changes nothing.

mod answer;
mod body;

use axum::{
    Router,
    extract::{Path, Request, State, path::ErrorKind, rejection::PathRejection},
    http::{HeaderMap, Uri, header},
    middleware,
    response::Response,
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use url::form_urlencoded;

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
            events.delete(|app: State<App>, request: Request| remove(Kind::Event, app, request)),
        )
        .route(
            "/api/integration/rsvps",
            rsvps.delete(|app: State<App>, request: Request| remove(Kind::Rsvp, app, request)),
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
    let within = app.clone();
    let work = async move {
        integration::count(&within, &key, 1).await?;
        let receipts = integration::submit(&within, &key, kind, &[&text]).await?;
        let receipt = receipts.into_iter().next().unwrap_or_else(|| Err(Error::bug(anyhow::anyhow!("no receipt"))))?;
        Ok(told(kind, receipt))
    };
    asked.once(&app, Box::pin(work)).await
}

async fn batch(kind: Kind, State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = authenticate(&app, &parts.headers).await?;
    let text = body::read(body, body::BATCH_BYTES).await?;
    let asked = Asked::new(&key, &parts, &text)?;
    let within = app.clone();
    let work = async move {
        let items = body::items(&parts.headers, &text)?;
        integration::count(&within, &key, items.len()).await?;
        let receipts = integration::submit(&within, &key, kind, &items).await?;
        let failed = receipts.iter().filter(|receipt| receipt.is_err()).count();
        let results: Vec<Value> = receipts
            .into_iter()
            .enumerate()
            .map(|(index, receipt)| {
                let mut result = match receipt {
                    Ok(receipt) => told(kind, receipt),
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
        Ok(json!({ "success": failed == 0, "message": message, "results": results }))
    };
    asked.once(&app, Box::pin(work)).await
}

async fn remove(kind: Kind, State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let key = authenticate(&app, &parts.headers).await?;
    let [id, source] = [parameter(&parts.uri, "sourceId")?, parameter(&parts.uri, "sourceType")?];
    let asked = Asked::new(&key, &parts, "")?;
    let within = app.clone();
    let work = async move {
        integration::count(&within, &key, 1).await?;
        integration::remove(&within, &key, kind, &source, &id).await?;
        Ok(deleted())
    };
    asked.once(&app, Box::pin(work)).await
}

async fn remove_record(
    State(app): State<App>,
    place: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let key = authenticate(&app, &parts.headers).await?;
    let Path((did, collection, rkey)) = place.map_err(illegible)?;
    let asked = Asked::new(&key, &parts, "")?;
    let within = app.clone();
    let work = async move {
        integration::count(&within, &key, 1).await?;
        integration::remove_record(&within, &key, &did, &collection, &rkey).await?;
        Ok(deleted())
    };
    asked.once(&app, Box::pin(work)).await
}

/// What stands for that which is no text, once it was read.
const NO_TEXT: char = '\u{fffd}';

/// The one value of a parameter.
fn parameter(uri: &Uri, name: &'static str) -> Result<String> {
    let parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut values = parameters.filter(|(given, _)| given == name).map(|(_, value)| value);
    let value = values.next().ok_or_else(|| Error::invalid(name, "FIELD_MISSING", "it must be given"))?;
    if values.next().is_some() {
        return Err(Error::invalid(name, "FIELD_REPEATED", "expected one value"));
    }
    if value.contains(NO_TEXT) {
        return Err(Error::invalid(name, "FIELD_MALFORMED", "expected text in UTF-8"));
    }
    Ok(value.into_owned())
}

/// A path of which a part is no text.
fn illegible(rejection: PathRejection) -> Error {
    match rejection {
        PathRejection::FailedToDeserializePathParams(error) => match error.into_kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => {
                Error::invalid(key, "FIELD_MALFORMED", "expected text in UTF-8")
            }
            other => Error::bug(anyhow::anyhow!(other.to_string())),
        },
        other => Error::bug(other),
    }
}

fn deleted() -> Value {
    json!({ "success": true, "message": "deleted", "outcome": "deleted" })
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

fn told(kind: Kind, receipt: Receipt) -> Value {
    let Receipt { outcome, slug, attendee, source_id } = receipt;
    let outcome = outcome.as_str();
    let mut answer =
        json!({ "success": true, "message": outcome, "outcome": outcome, "slug": slug, "sourceId": source_id });
    if kind == Kind::Rsvp {
        put(&mut answer, "attendeeId", attendee.map(graphql::rsvp_id));
    }
    answer
}

fn put(answer: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}
