//! GraphiQL, served from the program itself: it works without a network and under a strict content security policy.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// GraphiQL writes styles into the page; everything else comes from here.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

macro_rules! plain {
    ($name:literal, $kind:expr) => {
        get(|| async { file($kind, None, include_bytes!(concat!("graphiql/", $name))) })
    };
}

macro_rules! packed {
    ($name:literal, $kind:expr) => {
        get(|| async { file($kind, Some("gzip"), include_bytes!(concat!("graphiql/vendor/", $name, ".gz"))) })
    };
}

pub(super) fn router() -> Router {
    Router::new()
        .route("/graphiql", plain!("index.html", HTML))
        .route("/graphiql/", plain!("index.html", HTML))
        .route("/graphiql/graphiql.js", plain!("graphiql.js", SCRIPT))
        .route("/graphiql/graphiql.css", plain!("graphiql.css", STYLE))
        .route("/graphiql/favicon.svg", plain!("favicon.svg", "image/svg+xml"))
        .route("/graphiql/vendor/react.min.js", packed!("react.min.js", SCRIPT))
        .route("/graphiql/vendor/react-dom.min.js", packed!("react-dom.min.js", SCRIPT))
        .route("/graphiql/vendor/graphiql.min.js", packed!("graphiql.min.js", SCRIPT))
        .route("/graphiql/vendor/graphiql.min.css", packed!("graphiql.min.css", STYLE))
}

/// Every browser of the last twenty years unpacks gzip, so the packed files are not kept in a second form.
fn file(kind: &'static str, encoding: Option<&'static str>, bytes: &'static [u8]) -> impl IntoResponse {
    let encoding = encoding.map(|encoding| (header::CONTENT_ENCODING, HeaderValue::from_static(encoding)));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (axum::response::AppendHeaders(encoding), headers, bytes)
}
