//! Answers, and those that are told again to whoever repeats a request under its `Idempotency-Key`.
//!
//! The first request reserves the key, so that of two at the same time one runs. It runs to its end whether its caller waits or
//! not: one whose connection broke asks again and is told what came of it. Only successes are kept; after anything else
//! the key is free again.

use std::{panic, time::Duration};

use axum::{
    Json,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::{Instrument as _, debug, warn};
use uuid::Uuid;

use crate::{
    api::http::problem::Problem,
    app::App,
    domain::key::ServiceKey,
    error::{Code, Error, Result},
    infra::kv::{Key, Kind, Kv},
};

/// How long an answer is told again.
const KEPT: Duration = Duration::from_hours(24);
/// How long a key stays reserved for a request whose process has died. Longer than any takes.
const RESERVED: Duration = Duration::from_mins(1);

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
        let place = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        for part in [parts.method.as_str(), &place, body] {
            digest.update(part);
            digest.update([0]);
        }
        let key = given.map(|given| Key::new(Kind::Answer, &format!("{} {} {given}", key.prefix, key.tenant.id())));
        Ok(Self { key, digest: HEXLOWER.encode(&digest.finalize()) })
    }

    /// Does the work, or tells what came of it before. While the store is away the work is done, and its answer kept if the store
    /// takes it: the same items twice change nothing.
    pub(super) async fn once(
        self,
        app: &App,
        work: impl Future<Output = Result<Value>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let Some(key) = self.key else { return Ok(accepted(&work.await?)) };
        match tokio::spawn(reserved(app.kv.clone(), key, self.digest, work).in_current_span()).await {
            Ok(outcome) => outcome.map(|answer| accepted(&answer)),
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::bug(error).into()),
        }
    }
}

async fn reserved(
    kv: Kv,
    key: Key,
    digest: String,
    work: impl Future<Output = Result<Value>> + Send,
) -> Result<Value, Problem> {
    let mark = json!({ "request": digest, "by": Uuid::now_v7() }).to_string();
    match kv.compare_and_set(&key, None, mark.as_bytes(), RESERVED).await {
        Ok(true) => {}
        Ok(false) => return told_before(&kv, &key, &digest).await,
        Err(error) => debug!(error = error.chain(), "a key cannot be reserved"),
    }
    let outcome = work.await;
    let answer = outcome.as_ref().ok().map(|answer| json!({ "request": digest, "answer": answer }));
    keep(&kv, &key, &mark, answer).await;
    Ok(outcome?)
}

async fn told_before(kv: &Kv, key: &Key, digest: &str) -> Result<Value, Problem> {
    let kept = kv.get(key).await?;
    let mut kept = kept.and_then(|kept| serde_json::from_slice::<Value>(&kept).ok()).unwrap_or_default();
    let request = kept.get("request").and_then(Value::as_str);
    if request.is_some_and(|request| request != digest) {
        let why = "it was used for another request";
        return Err(Error::invalid("Idempotency-Key", "IDEMPOTENCY_KEY_REUSED", why).into());
    }
    // Else it is being answered, or has just been given up.
    kept.get_mut("answer").map(Value::take).ok_or_else(|| {
        let problem = Problem::new(StatusCode::CONFLICT, Code::RateLimited, "the same request is being answered");
        problem.with_field("Idempotency-Key", "IDEMPOTENCY_KEY_IN_USE").with_retry_after(1)
    })
}

/// Keeps a success in the place of the mark, or takes the mark away.
async fn keep(kv: &Kv, key: &Key, mark: &str, answer: Option<Value>) {
    if let Some(answer) = answer {
        let Err(error) = kv.set(key, answer.to_string().as_bytes(), KEPT).await else { return };
        warn!(error = error.chain(), "an answer is not kept: whoever repeats the request has it done again");
    }
    // Only its own, should another have reserved the key meanwhile.
    if let Err(error) = kv.compare_and_set(key, Some(mark.as_bytes()), b"{}", Duration::ZERO).await {
        debug!(error = error.chain(), "a key stays reserved for a while");
    }
}

fn accepted(answer: &Value) -> Response {
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
