//! Server-sent events, in the "distinct connections" mode of graphql-sse: `next` for every result, then `complete`.

use std::{convert::Infallible, future::pending};

use async_graphql::{Executor, Response, parser::types::OperationType};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response as HttpResponse},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Endpoint, Place, RequestInfo,
    accept::Media,
    answer::refused,
    frame::Frame,
    reply,
    run::Prepared,
    share::{Follower, Told},
};
use crate::api::graphql::guard::{Code, Refusal};

/// A comment, which clients skip.
const KEEPALIVE: Bytes = Bytes::from_static(b":\n\n");
/// With an empty line of data: browsers drop events that have none.
const COMPLETE: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");

/// Runs an operation and streams its results.
///
/// A task of its own drives the operation, so that a reader who stops reading loses the operation after the time for one
/// write. On shutdown the stream ends without `complete`, which tells clients to come back.
pub(super) fn stream<E: Executor>(endpoint: Endpoint<E>, prepared: Prepared, info: &RequestInfo) -> HttpResponse {
    let Some(place) = Place::take(&endpoint) else {
        let refusal = Refusal::new(Code::Unavailable, "too many open streams");
        return refused(StatusCode::SERVICE_UNAVAILABLE, Media::Json, refusal);
    };
    let expires = prepared.is_somebody.then(|| endpoint.inner.attach.expires(info)).flatten();
    let expires = expires.unwrap_or_else(|| pending().boxed());
    let (queue, mut frames) = mpsc::channel(endpoint.inner.settings.send_queue);
    tokio::spawn(async move {
        pump(endpoint, prepared, expires, queue).await;
        drop(place);
    });
    respond(Body::from_stream(stream::poll_fn(move |context| frames.poll_recv(context)).map(Ok::<_, Infallible>)))
}

/// One result, then the end.
pub(super) fn single(response: &Response) -> HttpResponse {
    respond(Body::from([Frame::of(response).event(), COMPLETE].concat()))
}

async fn pump<E: Executor>(
    endpoint: Endpoint<E>,
    prepared: Prepared,
    mut expires: BoxFuture<'static, ()>,
    queue: mpsc::Sender<Bytes>,
) {
    let settings = &endpoint.inner.settings;
    let mut results = if prepared.operation == OperationType::Subscription {
        follow(endpoint.subscribe(prepared)).boxed()
    } else {
        let endpoint = endpoint.clone();
        async move { Frame::of(&endpoint.execute(prepared).await).event() }.into_stream().boxed()
    };
    let mut is_over = false;
    let mut keepalive = interval_at(Instant::now() + settings.keepalive, settings.keepalive);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            () = queue.closed() => return,
            () = endpoint.inner.shutdown.cancelled() => return,
            () = &mut expires, if !is_over => {
                is_over = true;
                results = stream::empty().boxed();
                Some(Frame::of(&reply::refused(expired())).event())
            }
            result = results.next() => result,
            _ = keepalive.tick() => {
                // Not waited for, since an event may be in the middle of its turn. Where the queue is full there is enough
                // to read, and who reads nothing loses the connection.
                queue.try_send(KEEPALIVE).ok();
                continue;
            }
        };
        // What fails or ends only because everything does would seem to do so by itself.
        if endpoint.inner.shutdown.is_cancelled() {
            return;
        }
        let ended = frame.is_none();
        let sent = queue.send_timeout(frame.unwrap_or(COMPLETE), settings.write_timeout).await;
        if sent.is_err() || ended {
            return;
        }
    }
}

fn respond(body: Body) -> HttpResponse {
    let headers = [
        (header::CONTENT_TYPE, Media::Events.content_type()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that collect answers would hold events back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// What whoever is known no more is told.
fn expired() -> Refusal {
    Refusal::new(Code::Unauthenticated, "what was shown opens no more")
}

/// The results of a subscription. It waits for them alone, so that it may run alone here when it has to.
fn follow<E: Executor>(follower: Follower<E>) -> impl Stream<Item = Bytes> {
    stream::unfold(follower, |mut follower| async move {
        loop {
            match follower.next().await {
                Told::Frame(frame, _) => return Some((frame.event(), follower)),
                Told::CaughtUp => {}
                Told::Behind => follower.catch_up(),
                Told::Over => return None,
            }
        }
    })
}
