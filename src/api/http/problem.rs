//! Errors of the plain HTTP doors, as RFC 9457 problem documents.

use std::any::Any;

use axum::{
    Json,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::error;
use uuid::Uuid;

use crate::error::Code;

/// A problem document.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    /// Stable code, as in GraphQL's `extensions.code`.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, title: &'static str) -> Self {
        Self { title, status: status.as_u16(), code: code.as_str(), detail: None }
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
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
