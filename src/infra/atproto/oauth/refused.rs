//! What an authorization server says when it refuses.

use anyhow::anyhow;
use serde_json::Value;

use super::proof::object;
use crate::{
    error::{Error, Result},
    infra::http::Answer,
};

/// Longest text of a server that is passed on to the log.
const MAX_TEXT: usize = 300;

/// An error of OAuth (RFC 6749, section 5.2).
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// Its code.
    pub(super) error: String,
    description: String,
}

impl Refusal {
    /// The refusal in an answer with a status from 400 to 499.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        if !(400..500).contains(&answer.status) {
            return None;
        }
        let body = object(answer)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(plain);
        Some(Self { error: text("error")?, description: text("error_description").unwrap_or_default() })
    }

    /// The JSON object of an answer with one of these statuses.
    ///
    /// Everything else is `Upstream`: the server refused, which only its operator or ours can mend, or is away.
    pub(super) fn unless(answer: &Answer, service: &'static str, wanted: &[u16]) -> Result<Value> {
        if let Some(Self { error, description }) = Self::of(answer) {
            return Err(Error::upstream(service, anyhow!("it refused: {error} {description}")));
        }
        if !wanted.contains(&answer.status) {
            return Err(Error::upstream(service, anyhow!("status {}", answer.status)));
        }
        object(answer).ok_or_else(|| Error::upstream(service, anyhow!("an answer that is no JSON object")))
    }
}

/// Somebody else's text, fit for one line of a log.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
