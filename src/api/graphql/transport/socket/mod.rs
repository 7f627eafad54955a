//! GraphQL over WebSockets, subprotocol `graphql-transport-ws`.

mod end;
mod members;
mod message;
mod operation;
mod session;

use async_graphql::{Executor, http::WebSocketProtocols};
use async_graphql_axum::GraphQLProtocol;
use axum::{
    extract::{FromRequestParts as _, OriginalUri, WebSocketUpgrade},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response as HttpResponse},
};

use self::session::Session;
use super::{Endpoint, Place, RequestInfo, Transport, accept::Media, answer};
use crate::api::graphql::guard::{Code, Refusal};

/// Bytes that are read at once, and that every socket holds.
const READ_BUFFER: usize = 512;
/// Bytes that the library gathers: none, since it would keep the room for them. The connection does it.
const WRITE_BUFFER: usize = 0;

/// Opens a socket, or says why not: foreign origin (403), no subprotocol of ours (400), too many sockets (503).
///
/// A client that names no subprotocol at all is let in to be told so with close code 4406.
pub(super) async fn upgrade<E: Executor>(endpoint: Endpoint<E>, mut parts: Parts) -> HttpResponse {
    let refused = |status, code, why| answer::refused(status, Media::Json, Refusal::new(code, why));
    if !endpoint.inner.settings.origins.allows(&parts.headers) {
        return refused(StatusCode::FORBIDDEN, Code::Forbidden, "this origin is not allowed");
    }
    // It may have been one of several offers; of these axum knows nothing.
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let names_protocol = parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let speaks_graphql = GraphQLProtocol::from_request_parts(&mut parts, &()).await.is_ok();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([WebSocketProtocols::GraphQLWS.sec_websocket_protocol()]),
        Err(rejection) => return rejection.into_response(),
    };
    let agreed = upgrade.selected_protocol().is_some();
    if names_protocol && !(speaks_graphql && agreed) {
        return refused(StatusCode::BAD_REQUEST, Code::BadInput, "only graphql-transport-ws is spoken here");
    }
    let Some(place) = Place::take(&endpoint) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "too many open sockets");
    };
    let largest = endpoint.inner.guard.limits().max_body_bytes;
    // It is a piece of the buffer that the request was read into, and would keep all 8 KB of it.
    parts.extensions.remove::<OriginalUri>();
    let (headers, extensions) = (kept(&parts.headers), parts.extensions);
    let info = RequestInfo { transport: Transport::Socket, headers, extensions, init: None };
    upgrade
        // A socket that mostly waits should cost little.
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(largest)
        .max_frame_size(largest)
        .on_upgrade(move |socket| async move {
            // Apart: the task keeps as much room as everything before it needed.
            Box::pin(Session::new(endpoint, info).run(Box::new(socket), agreed)).await;
            drop(place);
        })
}

/// What the life of a socket needs of the headers that opened it: not what they say of the upgrade, and not the buffer that
/// they were read into.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let is_of_upgrade = |name: &HeaderName| {
        [header::CONNECTION, header::UPGRADE].contains(name) || name.as_str().starts_with("sec-websocket-")
    };
    let mut kept = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !is_of_upgrade(name)) {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            kept.append(name.clone(), copy);
        }
    }
    kept
}
