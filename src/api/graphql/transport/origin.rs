//! Which web pages may talk to us.
//!
//! A browser lets every page open a WebSocket to every host and names the page's origin; refusing is ours to do.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};
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

    /// Whether the sender may act for the person whose cookie is there: a page of our own host, or of an origin that is listed by
    /// name. A browser sends a cookie along whoever wrote the page, so that it counts only where the browser itself says which
    /// page asks: by `Origin`, or, where it sends none to its page's own host, by `Sec-Fetch-Site`.
    pub(crate) fn vouches(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(header::ORIGIN) {
            return self.by_name().allows(headers);
        }
        let mut sites = headers.get_all("sec-fetch-site").iter();
        matches!((sites.next(), sites.next()), (Some(site), None) if site == "same-origin")
    }

    /// Those that are listed by name: what is for all is not for somebody's cookie.
    fn by_name(&self) -> Self {
        Self { allowed: self.allowed.iter().filter(|allowed| *allowed != "*").cloned().collect() }
    }

    /// Cross-origin answers for the same origins; with cookies for those that are listed by name.
    pub(crate) fn layer(&self) -> CorsLayer {
        let (origins, named) = (self.clone(), self.by_name());
        let with_cookies = move |_: &HeaderValue, request: &Parts| named.allows(&request.headers);
        CorsLayer::new()
            .allow_credentials(AllowCredentials::predicate(with_cookies))
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
        for (origin, site, may) in [
            (Some("https://api.example"), None, true),
            (Some("https://app.example"), Some("same-site"), true),
            (Some("https://evil.example"), Some("same-origin"), false),
            (Some("null"), Some("same-origin"), false),
            (None, Some("same-origin"), true),
            (None, Some("same-site"), false),
            (None, Some("cross-site"), false),
            (None, Some("none"), false),
            (None, None, false),
        ] {
            let mut headers = headers(origin, "api.example");
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            for allowed in [vec!["https://app.example".into()], vec!["*".into(), "https://app.example".into()]] {
                assert_eq!(Origins { allowed }.vouches(&headers), may, "{origin:?} {site:?} with a cookie");
            }
        }
        let mut two = headers(Some("https://app.example"), "api.example");
        two.append(header::ORIGIN, "https://app.example".parse().unwrap());
        assert!(!origins.allows(&two), "two origins are none");
        assert!(Origins { allowed: vec!["*".into()] }.allows(&headers(Some("null"), "api.example")));
    }
}
