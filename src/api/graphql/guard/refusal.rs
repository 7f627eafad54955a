//! What a caller is told when a request is refused before it runs.

use async_graphql::{ErrorExtensionValues, Pos, ServerError};

/// Reasons for which the door itself refuses a request: `extensions.code`, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The document is not GraphQL.
    ParseFailed,
    /// The document does not fit the schema.
    ValidationFailed,
    /// Selections or values are nested too deep.
    TooDeep,
    /// The operation would cost too much.
    TooComplex,
    /// The document, its variables or the body are too large.
    TooLarge,
    /// Parameters or variables of the wrong form.
    BadInput,
    /// The document holds no operation of that name, or several and no name was given.
    OperationNotFound,
    /// Mutations go over POST.
    MethodNotAllowed,
    /// No media type that the caller accepts can be given.
    NotAcceptable,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// Subscriptions need `text/event-stream` or a WebSocket.
    StreamNeeded,
    /// The origin, or the caller, may not.
    Forbidden,
    /// More operations at once than one socket may hold.
    RateLimited,
    /// More streams than this process serves, or it is going down.
    Unavailable,
    /// A mistake of ours.
    Internal,
}

impl Code {
    /// The code as callers see it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::TooDeep => "QUERY_TOO_DEEP",
            Self::TooComplex => "QUERY_TOO_COMPLEX",
            Self::TooLarge => "QUERY_TOO_LARGE",
            Self::BadInput => "BAD_USER_INPUT",
            Self::OperationNotFound => "OPERATION_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::NotAcceptable => "NOT_ACCEPTABLE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::StreamNeeded => "SUBSCRIPTION_NEEDS_STREAM",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "SERVICE_UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// A refused request: a code for programs, a short text for people, and where in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The reason.
    pub(crate) code: Code,
    /// Text for people; echoes at most [`ECHO`] characters of the request.
    pub(crate) message: String,
    /// Line and column in the document, where there is one place.
    pub(crate) at: Option<Pos>,
}

/// Characters of a request that an error may repeat.
pub(crate) const ECHO: usize = 100;

impl Refusal {
    /// A refusal that concerns the whole request.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at: None }
    }

    /// The same refusal, at a place of the document.
    pub(crate) fn at(self, place: Pos) -> Self {
        Self { at: Some(place), ..self }
    }
}

impl From<Refusal> for ServerError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.message, refusal.at);
        error.extensions.get_or_insert_with(ErrorExtensionValues::default).set("code", refusal.code.as_str());
        error
    }
}

/// The first `max` characters of a text, with an ellipsis where something was left out.
pub(crate) fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
