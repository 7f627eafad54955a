//! Sessions over plain HTTP: an app's code becomes a token, and a session is ended.

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::json;

use super::{cookie, problem::Problem, trace::traced};
use crate::{
    api::{
        body::{self, PATIENCE},
        graphql::transport::Origins,
    },
    app::App,
    domain::{
        account,
        actor::{self, Shown},
        session::code,
    },
    error::{Code, Error},
};

/// Largest body.
const MOST: usize = 8_192;

pub(super) fn router(app: &App) -> Router {
    let origins = Origins { allowed: app.config.http.allowed_origins.clone() };
    Router::new()
        .route("/session/token", post(exchange))
        .route("/session/end", post(end))
        .route_layer(middleware::from_fn(traced))
        .layer(origins.layer())
        .with_state(app.clone())
}

/// What an app sends to get its session.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

async fn exchange(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let malformed = || Error::invalid("body", "BODY_MALFORMED", "expected JSON with code, redirectUri, codeVerifier");
    if !is_json(&parts.headers) {
        let title = "send application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, title));
    }
    let body = body::read(body, MOST, PATIENCE).await.map_err(|refused| Problem::of_body(refused, MOST))?;
    let Asked { code, redirect_uri, code_verifier } = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let opened = code::exchange(&app, &code, &redirect_uri, &code_verifier, agent(&parts.headers)).await?;
    let answer = json!({ "token": opened.token, "tokenType": "Bearer", "expiresAt": opened.expires_at });
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

/// Ends the session that is shown, and takes the cookie away. Nobody else's page can call it for somebody.
async fn end(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let origins = Origins { allowed: app.config.http.allowed_origins.clone() };
    let held = cookie::shown(&app, &headers);
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    if authorization.is_none() && held.is_some() && !origins.vouches(&headers) {
        return Err(Error::Forbidden { why: "a cookie counts only from our own pages" }.into());
    }
    let actor = actor::identify(&app, Shown { authorization, cookie: held }, None).await?;
    if let actor::Actor::Person(person) = &actor
        && let Some(id) = person.session
    {
        account::sign_out(&app, person.user, Some(id)).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie::withdraw(&app)?)]).into_response())
}

/// What a caller's program calls itself.
fn agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::USER_AGENT)?.to_str().ok()
}

/// Everything else a foreign page could send without asking.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
