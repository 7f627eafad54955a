//! What goes back over HTTP when it is one document: the status, the media type, and what proxies must know.

use async_graphql::{Executor, Response};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response as HttpResponse},
};

use super::{Endpoint, accept::Media, reply};
use crate::api::graphql::guard::{Code, Refusal};

/// Seconds after which a caller that found us too busy may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl<E: Executor> Endpoint<E> {
    /// An answer with the status that its media type asks for.
    pub(super) fn answer(&self, media: Media, response: &Response) -> HttpResponse {
        let draft = self.inner.settings.draft_statuses && media == Media::Response;
        let status = match reply::refusal(response) {
            None if draft && !response.errors.is_empty() => StatusCode::from_u16(294).unwrap_or(StatusCode::OK),
            None => StatusCode::OK,
            // What is no fault of the request is told to proxies and monitors too, whatever the media type.
            Some(Code::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
            Some(Code::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Some(Code::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            // Proxies and clients know what to do about it.
            Some(Code::Unauthenticated) => StatusCode::UNAUTHORIZED,
            Some(_) if media == Media::Json => StatusCode::OK,
            Some(Code::ParseFailed) => StatusCode::BAD_REQUEST,
            Some(_) if draft => StatusCode::UNPROCESSABLE_ENTITY,
            Some(_) => StatusCode::BAD_REQUEST,
        };
        write(status, media, response)
    }
}

/// A refusal of a request that was not even looked at, or may not run this way.
pub(super) fn refused(status: StatusCode, media: Media, refusal: Refusal) -> HttpResponse {
    write(status, media, &reply::refused(refusal))
}

fn write(status: StatusCode, media: Media, response: &Response) -> HttpResponse {
    let headers = [
        (header::CONTENT_TYPE, media.content_type()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    let mut answer = (status, headers, reply::Body::of(response).json()).into_response();
    answer.headers_mut().extend(response.http_headers.clone());
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    answer
}
