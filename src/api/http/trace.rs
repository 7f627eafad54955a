//! A span for each request, which goes on with the caller's trace.

use axum::{
    extract::{MatchedPath, Request},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use tracing::{Instrument as _, Span, field::Empty, info_span};

use crate::{domain::tenant::Tenant, telemetry::caused};

/// What the caller was doing, where it says so.
pub(crate) fn cause(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

/// Tells the span of the current request who it is of.
pub(super) fn is_of(tenant: Tenant, caller: &str) {
    Span::current().record("tenant", tenant.id()).record("caller", caller);
}

/// Serves a request within its span.
pub(super) async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let method = request.method().as_str();
    let span =
        info_span!("request.serve", trace_id = Empty, method, route, tenant = Empty, caller = Empty, status = Empty,);
    let span = caused(span, cause(request.headers()));
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}
