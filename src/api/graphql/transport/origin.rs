//! Which web pages may talk to us.
//!
//! A browser lets every page open a WebSocket to every host and names the page's origin; refusing is ours to do.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

/// Names the tenant; what it means is for those in front of the endpoint to say.
const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// The origins of web pages that may use the API; our own host always may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// Such as `https://example.org`, compared without regard to case; `*` allows all.
    pub(crate) allowed: Vec<String>,
}

impl Origins {
    /// Whether the sender of these headers may go on: no browser, a page of our own host, or a page of a listed origin.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return !headers.contains_key(header::ORIGIN);
        };
        if self.allowed.iter().any(|allowed| allowed == "*") {
            return true;
        }
        let Ok(origin) = origin.to_str() else { return false };
        let listed = |allowed: &String| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin);
        self.allowed.iter().any(listed) || is_own(origin, headers).unwrap_or(false)
    }

    /// Cross-origin answers for the same origins.
    pub(super) fn layer(&self) -> CorsLayer {
        let origins = self.clone();
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |_, request| origins.allows(&request.headers)))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, TENANT])
            .max_age(Duration::from_hours(1))
    }
}

/// Whether the page came from the host that this request names; the port that its scheme implies may be left out.
fn is_own(origin: &str, headers: &HeaderMap) -> Option<bool> {
    let page = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let own = Url::parse(&format!("{}://{host}", page.scheme())).ok()?;
    Some(page.host()? == own.host()? && page.port_or_known_default() == own.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn own_pages_listed_pages_and_programs_may() {
        let origins = Origins { allowed: vec!["https://app.example/".into()] };
        for (origin, host, may) in [
            (None, "api.example", true),
            (Some("https://api.example"), "api.example", true),
            (Some("https://API.example"), "api.example:443", true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("http://[::1]:8080"), "[::1]:8080", true),
            (Some("https://App.Example"), "api.example", true),
            (Some("http://app.example"), "api.example", false),
            (Some("https://api.example:8443"), "api.example", false),
            (Some("https://evil.example"), "api.example", false),
            (Some("https://app.example.evil.example"), "api.example", false),
            (Some("null"), "api.example", false),
            (Some("file://"), "", false),
            (Some(""), "api.example", false),
        ] {
            assert_eq!(origins.allows(&headers(origin, host)), may, "{origin:?} to {host}");
        }
        let mut two = headers(Some("https://app.example"), "api.example");
        two.append(header::ORIGIN, "https://app.example".parse().unwrap());
        assert!(!origins.allows(&two), "two origins are none");
        assert!(Origins { allowed: vec!["*".into()] }.allows(&headers(Some("null"), "api.example")));
    }
}
