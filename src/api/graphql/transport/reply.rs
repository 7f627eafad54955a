//! What answers look like: error codes on every error, bounded texts, `data` only after execution.

use std::{any::Any, collections::BTreeMap};

use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use serde::Serialize;
use uuid::Uuid;

use crate::api::graphql::guard::{Code, ECHO, Refusal, clip};

/// Errors that one answer lists.
const MAX_ERRORS: usize = 10;

/// An answer as it is written: without `data` where nothing was executed.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extensions: &'a BTreeMap<String, Value>,
}

impl<'a> Body<'a> {
    /// The answer of an operation.
    pub(super) fn of(response: &'a Response) -> Self {
        let data = (!is_request_error(response)).then_some(&response.data);
        Self { errors: &response.errors, data, extensions: &response.extensions }
    }

    /// The answer as JSON.
    pub(super) fn json(&self) -> String {
        // Names are strings and numbers are finite: there is nothing in an answer that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_else(|_| r#"{"errors":[{"message":"internal error"}]}"#.to_owned())
    }
}

/// An answer that refuses.
pub(super) fn refused(refusal: Refusal) -> Response {
    Response::from_errors(vec![refusal.into()])
}

/// The answer after a panic: an id that finds it in the log, and nothing else.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Response {
    let id = Uuid::now_v7();
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(error_id = %id, panic = text.unwrap_or("no text"), "a GraphQL operation panicked");
    Response::from_errors(vec![internal(id)])
}

fn internal(id: Uuid) -> ServerError {
    let mut error = ServerError::from(Refusal::new(Code::Internal, "internal error"));
    error.extensions.get_or_insert_with(ErrorExtensionValues::default).set("errorId", id.to_string());
    error
}

/// Whether the request was refused before execution. Errors of fields have a path; so has one that makes `data` null.
pub(super) fn is_request_error(response: &Response) -> bool {
    response.data == Value::Null && !response.errors.is_empty() && response.errors.iter().all(|e| e.path.is_empty())
}

/// Gives every error a code and bounds how many there are and how much of the request they repeat.
pub(super) fn tidy(mut response: Response) -> Response {
    let refused = is_request_error(&response);
    response.errors.truncate(MAX_ERRORS);
    for error in &mut response.errors {
        if code_of(error).is_some() {
            continue;
        }
        let code = if refused {
            Code::ValidationFailed
        } else if is_input_error(&error.message) {
            Code::BadInput
        } else {
            // Every error of ours has a code. One without is a fault whose text was not written for callers.
            let id = Uuid::now_v7();
            tracing::error!(error_id = %id, message = error.message, path = ?error.path, "a GraphQL field failed without a code");
            let path = std::mem::take(&mut error.path);
            *error = ServerError { path, locations: std::mem::take(&mut error.locations), ..internal(id) };
            continue;
        };
        error.message = clip(&error.message, 2 * ECHO);
        error.extensions.get_or_insert_with(ErrorExtensionValues::default).set("code", code.as_str());
    }
    response
}

/// The library refuses some values of arguments only when it reads them, during execution and without a code.
fn is_input_error(message: &str) -> bool {
    ["Failed to parse \"", "Expected input type \"", "Invalid value for argument \"", "Invalid value for "]
        .iter()
        .any(|start| message.starts_with(start))
        || message.contains("(occurred while parsing \"")
}

/// The code that callers see.
fn code_of(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// The code of the first error, `OK` where there is none: a metric label, so a code that is not known here is `OTHER`.
pub(super) fn label(response: &Response) -> &'static str {
    let Some(error) = response.errors.first() else { return "OK" };
    code_of(error).and_then(known).map_or("OTHER", Code::as_str)
}

fn known(code: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|known| known.as_str() == code)
}

/// Why the whole request was refused, where it was.
pub(super) fn refusal(response: &Response) -> Option<Code> {
    let error = response.errors.first().filter(|_| is_request_error(response))?;
    // A code that nobody knows is a mistake of ours.
    Some(code_of(error).and_then(known).unwrap_or(Code::Internal))
}
