//! Errors of the plain HTTP doors, as RFC 9457 problem documents.

use std::any::Any;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    api::body::Refused,
    error::{Code, Error},
};

/// Seconds after which a part that was away is asked for again.
const PAUSE: u64 = 5;

/// A problem document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    /// Stable code, as in GraphQL's `extensions.code`.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Field at fault, with the names that lead to it: `source.metadata.rev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The rule that was broken, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Whole seconds to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, title: &'static str) -> Self {
        let (status, code) = (status.as_u16(), code.as_str());
        Self { title, status, code, detail: None, field: None, reason: None, retry_after: None }
    }

    /// Of a body of at most so many bytes.
    pub(super) fn of_body(refused: Refused, most: usize) -> Self {
        match refused {
            Refused::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, "the body is too large")
                .with_detail(format!("at most {most} bytes")),
            Refused::Late => Self::new(StatusCode::REQUEST_TIMEOUT, Code::BadInput, "the body took too long"),
            Refused::Broken => Self::new(StatusCode::BAD_REQUEST, Code::BadInput, "the body cannot be read"),
        }
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn with_field(mut self, field: &str, reason: &'static str) -> Self {
        self.field = Some(field.to_owned());
        self.reason = Some(reason);
        self
    }

    pub(super) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = error.code();
        let text = format!("failed to {error}");
        match error {
            Error::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, code, "there is no such thing").with_detail(text)
            }
            Error::Unauthenticated { .. } => {
                Self::new(StatusCode::UNAUTHORIZED, code, "a key is needed").with_detail(text)
            }
            Error::Forbidden { .. } => Self::new(StatusCode::FORBIDDEN, code, "this key may not").with_detail(text),
            Error::Invalid { field, code: reason, .. } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem = Self::new(status, code, "a value breaks a rule").with_detail(text);
                Self { field: Some(field.into_owned()), reason: Some(reason), ..problem }
            }
            Error::RateLimited { retry_after } => {
                // Whole seconds, rounded up: whoever waits that long is let in.
                let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, "too much at once");
                Self { retry_after: Some(seconds), ..problem }
            }
            Error::Upstream { .. } | Error::Unavailable { .. } => {
                warn!(error = error.chain(), "a request failed");
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "something is away").with_detail(text);
                Self { retry_after: Some(PAUSE), ..problem }
            }
            Error::Bug(_) => {
                let id = Uuid::now_v7();
                error!(error_id = %id, error = error.chain(), "a request failed");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, code, "something went wrong here").with_detail(format!("error id {id}"))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        (status, headers, Json(self)).into_response()
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Problem::new(StatusCode::NOT_FOUND, Code::NotFound, "nothing is served here").with_detail(path)
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, "this method is not served here")
}

/// The answer when a handler panics: the caller is told an id and nothing else.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer asks for")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let id = Uuid::now_v7();
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    error!(error_id = %id, cause = text.unwrap_or("unknown"), "a request handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "something went wrong here")
        .with_detail(format!("error id {id}"))
        .into_response()
}
