//! GraphQL over HTTP, as the specification of that name has it.

use async_graphql::{Executor, parser::types::OperationType};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response as HttpResponse,
};

use super::{
    Endpoint, RequestInfo, Transport,
    accept::{Media, negotiate},
    answer::refused,
    events,
    parameters::Parameters,
    socket,
};
use crate::api::{
    body::{self, Refused},
    graphql::guard::{Code, Refusal},
};

/// Answers every request on the path.
pub(super) async fn serve<E: Executor>(State(endpoint): State<Endpoint<E>>, request: Request) -> HttpResponse {
    let (mut parts, body) = request.into_parts();
    if wants_socket(&parts.headers) {
        return socket::upgrade(endpoint, parts).await;
    }
    let Some(media) = negotiate(&parts.headers) else {
        let refusal = Refusal::new(Code::NotAcceptable, "accept application/graphql-response+json or application/json");
        return refused(StatusCode::NOT_ACCEPTABLE, Media::Json, refusal);
    };
    let plain = if media == Media::Events { Media::Json } else { media };
    if media == Media::Events && !endpoint.inner.settings.origins.allows(&parts.headers) {
        return refused(StatusCode::FORBIDDEN, plain, Refusal::new(Code::Forbidden, "this origin is not allowed"));
    }
    let parameters = match endpoint.parameters(&parts, body).await {
        Ok(parameters) => parameters,
        Err((status, refusal)) => return refused(status, plain, refusal),
    };
    let transport = if media == Media::Events { Transport::Events } else { Transport::Http };
    let extensions = std::mem::take(&mut parts.extensions);
    let info = RequestInfo { transport, headers: parts.headers, extensions, init: None };
    let prepared = match endpoint.prepare(parameters, &info).await {
        Ok(prepared) => prepared,
        // Whoever asked for events gets the refusal as one: a browser shows nothing of a failed request.
        Err(response) if media == Media::Events => return events::single(&response),
        Err(response) => return endpoint.answer(media, &response),
    };
    match prepared.operation {
        OperationType::Mutation if parts.method != Method::POST => {
            let refusal = Refusal::new(Code::MethodNotAllowed, "mutations need POST");
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, plain, refusal);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            response
        }
        _ if media == Media::Events => events::stream(endpoint, prepared, &info),
        OperationType::Subscription => {
            let message = "subscriptions need Accept: text/event-stream, or a WebSocket";
            refused(StatusCode::BAD_REQUEST, plain, Refusal::new(Code::StreamNeeded, message))
        }
        OperationType::Query | OperationType::Mutation => {
            let response = endpoint.execute(prepared).await;
            endpoint.answer(media, &response)
        }
    }
}

impl<E: Executor> Endpoint<E> {
    async fn parameters(&self, parts: &Parts, body: Body) -> Result<Parameters, (StatusCode, Refusal)> {
        let limits = self.inner.guard.limits();
        let malformed = |refusal| (StatusCode::BAD_REQUEST, refusal);
        if parts.method != Method::POST {
            let query = parts.uri.query().unwrap_or_default();
            if query.len() > limits.max_body_bytes {
                return Err(too_large(limits.max_body_bytes));
            }
            return Parameters::from_query(query, limits).map_err(malformed);
        }
        if !is_json(&parts.headers) {
            let refusal = Refusal::new(Code::UnsupportedMediaType, "send application/json in UTF-8");
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal));
        }
        let most = limits.max_body_bytes;
        let body = body::read(body, most, self.inner.settings.body_timeout).await.map_err(|refused| match refused {
            Refused::TooLarge => too_large(most),
            Refused::Late => (StatusCode::REQUEST_TIMEOUT, Refusal::new(Code::BadInput, "the body took too long")),
            Refused::Broken => malformed(Refusal::new(Code::BadInput, "the body cannot be read")),
        })?;
        Parameters::from_body(&body, limits).map_err(malformed)
    }
}

/// Whether a WebSocket is among the protocols that the caller would change to. The others are offers (`h2c`, by some
/// clients with every request), which a server may leave alone.
fn wants_socket(headers: &HeaderMap) -> bool {
    let mut offers = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offers.any(|value| value.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")))
}

/// `application/json`, in UTF-8 if it says. Everything else could be sent by a foreign page without asking.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

fn too_large(max: usize) -> (StatusCode, Refusal) {
    (StatusCode::PAYLOAD_TOO_LARGE, Refusal::new(Code::TooLarge, format!("the request is larger than {max} bytes")))
}
