//! The tenant that a request means: the one that `x-tenant-id` names, else the default one. On a socket it may stand in the
//! payload of `connection_init` instead, since browsers send no headers of their own there; what stands there counts.

use axum::{
    extract::{Request, State},
    http::{HeaderName, StatusCode},
    middleware::Next,
    response::Response,
};

use super::{guard::Refusal, transport};
use crate::{
    app::App,
    domain::tenant::Tenant,
    error::{Code, Error},
};

/// The header, as the integration API has it.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-tenant-id");

/// What is said when there is no such tenant.
pub(super) fn unknown() -> Refusal {
    Refusal::new(Code::NotFound, "there is no tenant of the name in x-tenant-id")
}

/// Looks the tenant up, and leaves it in the request's extensions; one that does not exist is refused, and so is a name that
/// is no text, which must not be taken for none.
pub(super) async fn choose(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(named) = request.headers().get(HEADER) else { return next.run(request).await };
    let found = match named.to_str() {
        Ok(slug) => Tenant::by_slug(app.db.read(), slug).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(tenant)) => {
            request.extensions_mut().insert(tenant);
            next.run(request).await
        }
        Ok(None) => transport::refuse(StatusCode::NOT_FOUND, unknown()),
        Err(error) => {
            tracing::warn!(error = error.chain(), "a tenant could not be looked up");
            let is_away = matches!(error, Error::Unavailable { .. });
            let status = if is_away { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
            transport::refuse(status, Refusal::new(error.code(), "the tenant could not be looked up"))
        }
    }
}
