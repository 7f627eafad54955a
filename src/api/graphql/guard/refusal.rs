//! What a caller is told when a request is refused before it runs.

use async_graphql::{ErrorExtensionValues, Pos, ServerError};

pub(crate) use crate::error::Code;

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
