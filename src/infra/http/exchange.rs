//! What is asked and what is answered.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use url::Url;

use crate::infra::clock::Clock;

/// How long a 429 without a date is honoured, and the longest that any is.
pub(super) const PAUSE: Duration = Duration::from_secs(30);
pub(super) const MAX_PAUSE: Duration = Duration::from_hours(1);

/// What is asked of a host.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Whom and what to ask.
    pub url: Url,
    /// Headers beside those of the client itself. They may hold secrets: a redirect to another origin is asked without them.
    pub headers: HeaderMap,
    /// What is sent along; nothing when empty.
    pub body: Bytes,
    /// Longest body of the answer that is read, where that is less than [`super::OutboundSettings::max_body_bytes`].
    pub max_body_bytes: Option<usize>,
    /// Whether at most three redirects are followed, of GET only; else, and of every other method, the redirect itself is
    /// the answer.
    pub follow_redirects: bool,
}

impl Request {
    /// Reads a URL, following redirects.
    pub fn get(url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method: Method::GET, url, headers, body, max_body_bytes: None, follow_redirects: true }
    }

    /// Sends a body of a media type such as `application/json`.
    pub fn post(url: Url, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        Self { method: Method::POST, url, headers, body: body.into(), max_body_bytes: None, follow_redirects: false }
    }

    /// With one more header, or another value of it.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// What a host answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HeaderMap,
    /// Body, within the size limit.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Text of a header, when it is there and is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where an answer points instead, when it does.
pub(super) fn redirect(answer: &Answer, from: &Url) -> Option<Url> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    from.join(answer.header(LOCATION.as_str())?).ok()
}

/// How long a 429 asks to wait: `Retry-After` in seconds or as a date, else `RateLimit-Reset`, which PDSes give as
/// seconds since 1970 and others as seconds from now.
pub(super) fn pause(headers: &HeaderMap) -> Duration {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let from_now = |at: i64| at.saturating_sub(Clock::system().now().timestamp());
    let seconds = text(RETRY_AFTER.as_str())
        .and_then(|t| t.parse().ok().or_else(|| Some(from_now(DateTime::parse_from_rfc2822(t).ok()?.timestamp()))))
        .or_else(|| {
            let reset: i64 = text("ratelimit-reset")?.parse().ok()?;
            Some(if reset > 1_000_000_000 { from_now(reset) } else { reset })
        });
    match seconds {
        Some(seconds) => {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(Duration::from_secs(1), MAX_PAUSE)
        }
        None => PAUSE,
    }
}
