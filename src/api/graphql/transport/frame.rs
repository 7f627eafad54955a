//! A result of an operation as it is written: serialised once, whoever it goes to.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use async_graphql::{Response, Value};
use bytes::Bytes;
use tokio::sync::Notify;

use super::reply;

/// A result, in JSON.
#[derive(Debug)]
pub(super) struct Frame {
    /// The code of its first error, `OK` where there is none: for figures.
    pub(super) label: &'static str,
    /// Where it stands in the stream that it is of, if it can be resumed behind it.
    pub(super) position: Option<i64>,
    payload: String,
    /// The errors alone, where the request was refused.
    refusal: Option<String>,
    event: OnceLock<Bytes>,
    taken: AtomicUsize,
    /// So many members have to take it before others can be expected to keep up.
    quorum: usize,
    passed: Notify,
}

impl Frame {
    /// Writes a result.
    pub(super) fn of(response: &Response) -> Self {
        let refused = reply::is_request_error(response);
        Self {
            label: reply::label(response),
            position: None,
            payload: reply::Body::of(response).json(),
            refusal: refused.then(|| serde_json::to_string(&response.errors).unwrap_or_else(|_| "[]".to_owned())),
            event: OnceLock::new(),
            taken: AtomicUsize::new(0),
            quorum: 0,
            passed: Notify::new(),
        }
    }

    /// Writes a result that stands at a position. What failed as a whole stands nowhere: everybody has to see it.
    pub(super) fn at(response: &Response, position: Option<i64>) -> Self {
        Self { position: position.filter(|_| response.data != Value::Null), ..Self::of(response) }
    }

    /// The same, for so many members.
    pub(super) fn shared_by(self, members: usize) -> Self {
        Self { quorum: members.div_ceil(4), ..self }
    }

    /// The result.
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }

    /// The errors with which the request was refused before it ran.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The result as a server-sent event. JSON has no raw line breaks, so that it is one line.
    pub(super) fn event(&self) -> Bytes {
        self.event.get_or_init(|| format!("event: next\ndata: {}\n\n", self.payload).into()).clone()
    }

    /// A member has it.
    pub(super) fn take(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed) + 1 == self.quorum {
            self.passed.notify_waiters();
        }
    }

    /// Returns when a quarter of the members have it.
    pub(super) async fn passed(&self) {
        let passed = self.passed.notified();
        let mut passed = std::pin::pin!(passed);
        passed.as_mut().enable();
        if self.taken.load(Ordering::Relaxed) < self.quorum {
            passed.await;
        }
    }
}
