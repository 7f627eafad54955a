//! Answers, and those that are told again to whoever repeats a request under its `Idempotency-Key`.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::debug;

use crate::{
    app::App,
    domain::key::ServiceKey,
    error::{Error, Result},
    infra::kv::{Key, Kind},
};

/// How long an answer is told again.
const KEPT: Duration = Duration::from_hours(24);

/// A request, as far as it can be repeated.
pub(super) struct Asked {
    key: Option<Key>,
    digest: String,
}

impl Asked {
    pub(super) fn new(key: &ServiceKey, parts: &Parts, body: &str) -> Result<Self> {
        let given = parts.headers.get("idempotency-key").map(|value| value.to_str().unwrap_or_default());
        if given.is_some_and(|given| given.is_empty() || given.len() > 255) {
            let why = "expected 1 to 255 plain characters";
            return Err(Error::invalid("Idempotency-Key", "IDEMPOTENCY_KEY_MALFORMED", why));
        }
        let mut digest = Sha256::new();
        digest.update(parts.uri.path());
        digest.update([0]);
        digest.update(body);
        let key = given.map(|given| Key::new(Kind::Answer, &format!("{} {} {given}", key.prefix, key.tenant.id())));
        Ok(Self { key, digest: HEXLOWER.encode(&digest.finalize()) })
    }

    /// What was answered before. Where that cannot be looked up the request runs: it changes nothing the second time.
    pub(super) async fn answered(&self, app: &App) -> Result<Option<Response>> {
        let Some(key) = &self.key else { return Ok(None) };
        let kept = app.kv.get(key).await.unwrap_or_else(|error| {
            debug!(error = error.chain(), "kept answers cannot be read");
            None
        });
        let Some(kept) = kept.and_then(|kept| serde_json::from_slice::<Value>(&kept).ok()) else { return Ok(None) };
        let digest = kept.get("request").and_then(Value::as_str);
        if digest != Some(&self.digest) {
            let why = "it was used for another request";
            return Err(Error::invalid("Idempotency-Key", "IDEMPOTENCY_KEY_REUSED", why));
        }
        Ok(kept.get("answer").map(accepted))
    }

    /// Keeps a success, and tells it.
    pub(super) async fn keep(&self, app: &App, answer: Value) -> Response {
        if let Some(key) = &self.key {
            let kept = json!({ "request": self.digest, "answer": answer }).to_string();
            if let Err(error) = app.kv.set(key, kept.as_bytes(), KEPT).await {
                debug!(error = error.chain(), "an answer is not kept");
            }
        }
        accepted(&answer)
    }
}

pub(super) fn accepted(answer: &Value) -> Response {
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
