//! GraphQL over HTTP, server-sent events and WebSockets.
//!
//! One [`Endpoint`] serves all three on one path. It promises: a document reaches the library only after the
//! [guard](super::guard); nothing that a caller sends grows without bound here; a caller that doesn't read is cut off; a
//! panic ends one operation, and so does its time limit. It doesn't know the schema's types, who the caller is (see [`Attach`]) or what is cached.

mod accept;
mod answer;
mod course;
mod events;
mod frame;
mod http;
mod lanes;
mod names;
mod origin;
mod parameters;
mod reply;
mod run;
mod share;
mod socket;
mod span;
#[cfg(test)]
mod tests;
mod turn;

use std::{future::ready, sync::Arc, time::Duration};

use async_graphql::{Data, Executor};
use axum::{
    Router,
    http::{Extensions, HeaderMap, StatusCode},
    response::Response as HttpResponse,
    routing::{MethodRouter, get},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

pub(crate) use self::{
    course::Course,
    origin::Origins,
    share::{Audience, Resumable},
    span::Named,
    turn::Turn,
};
use self::{lanes::Lanes, names::Names, share::Runs};
use super::guard::{Code, Guard, Refusal};
use crate::api::body::PATIENCE;

/// The path that everything here is served on.
pub(crate) const PATH: &str = "/graphql";

/// How an operation came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// POST or GET, one answer.
    Http,
    /// Server-sent events.
    Events,
    /// A WebSocket.
    Socket,
}

impl Transport {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Events => "events",
            Self::Socket => "socket",
        }
    }
}

/// What is known of the sender of an operation.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    /// How the operation came in.
    pub(crate) transport: Transport,
    /// Headers of the request, or of the one that opened the socket.
    pub(crate) headers: HeaderMap,
    /// What those in front of the endpoint know of it.
    pub(crate) extensions: Extensions,
    /// Payload of `connection_init`, on a socket.
    pub(crate) init: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Who sends an operation.
pub(crate) struct Sender {
    /// What its resolvers need: its loaders, its actor, and who it is in spans ([`Named`]).
    pub(crate) data: Data,
    /// Whose runs of subscriptions it may share; none for whoever shares none.
    pub(crate) audience: Option<Audience>,
    /// It may be shown more than nobody in particular, and so shares only what answers the same to everybody.
    pub(crate) is_somebody: bool,
}

/// Knows senders, and gives operations what their resolvers need. A closure that returns the data of an operation is one
/// that knows nobody.
pub(crate) trait Attach: Send + Sync + 'static {
    /// The sender of one operation, with its data; or why this sender may not ask. Called once for each operation, not for each
    /// event.
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Sender, Refusal>>;

    /// Whether whoever uses a socket is somebody, asked once at `connection_init`; what is found out about it may be left in its
    /// extensions. Sockets that may not be used are closed: with 1013 where the refusal is no fault of theirs, with 4404 where
    /// what they name is not there, else with 4403.
    fn admits<'a>(&'a self, _info: &'a mut RequestInfo) -> BoxFuture<'a, Result<bool, Refusal>> {
        ready(Ok(true)).boxed()
    }

    /// What returns when what the sender showed, who is somebody, opens no more: a socket is closed with 4401 then, and an event
    /// stream ends with `UNAUTHENTICATED`. None where that never comes.
    fn expires(&self, _info: &RequestInfo) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

impl<F: Fn(&RequestInfo) -> Data + Send + Sync + 'static> Attach for F {
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Sender, Refusal>> {
        ready(Ok(Sender { data: self(info), audience: None, is_somebody: true })).boxed()
    }
}

/// How the transports behave.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Web pages that may use the API.
    pub(crate) origins: Origins,
    /// Sockets and event streams that this process holds open at once; further ones are answered with 503.
    pub(crate) max_sockets: usize,
    /// Operations that one socket runs at once.
    pub(crate) socket_operations: usize,
    /// Places for running queries and mutations; an expensive one takes several.
    pub(crate) max_operations: usize,
    /// Connections to the database that operations share: expensive ones take at most half of them, events of
    /// subscriptions a quarter.
    pub(crate) connections: usize,
    /// Time that an operation waits for its place before it is turned away.
    pub(crate) queue_timeout: Duration,
    /// Time for the execution of a query, a mutation or one event of a subscription.
    pub(crate) operation_timeout: Duration,
    /// Results that wait for one reader before its operations pause.
    pub(crate) send_queue: usize,
    /// Time to `connection_init`.
    pub(crate) init_timeout: Duration,
    /// Time for one write; a reader that is slower is cut off.
    pub(crate) write_timeout: Duration,
    /// Time for the whole body of a request.
    pub(crate) body_timeout: Duration,
    /// Time between signs of life that are sent. A socket that leaves three of them unanswered is closed.
    pub(crate) keepalive: Duration,
    /// Subscriptions that run once for all who mean the same.
    pub(crate) shared: &'static [Resumable],
    /// Operations that are counted by their name; all others together.
    pub(crate) named_operations: Vec<String>,
    /// Answer as the newest draft of GraphQL over HTTP wants: 422 for documents that don't fit, 294 for partial success.
    pub(crate) draft_statuses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            max_sockets: 10_000,
            socket_operations: 50,
            max_operations: 64,
            connections: 10,
            queue_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(30),
            send_queue: 16,
            init_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            body_timeout: PATIENCE,
            keepalive: Duration::from_secs(12),
            shared: &[],
            named_operations: Vec::new(),
            draft_statuses: false,
        }
    }
}

/// A GraphQL schema with its guard, ready to be served.
pub(crate) struct Endpoint<E> {
    inner: Arc<Inner<E>>,
}

struct Inner<E> {
    executor: E,
    guard: Guard,
    attach: Box<dyn Attach>,
    settings: Settings,
    streams: Arc<Semaphore>,
    lanes: Lanes,
    names: Names,
    runs: Runs,
    open: TaskTracker,
    shutdown: CancellationToken,
}

impl<E> Clone for Endpoint<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<E: Executor> Endpoint<E> {
    /// Puts the parts together. When the token is cancelled, sockets are closed with 1012 and event streams end; `open`
    /// counts those that have not ended yet, which the server does not wait for by itself.
    pub(crate) fn new(
        executor: E,
        guard: Guard,
        attach: impl Attach,
        settings: Settings,
        (shutdown, open): (CancellationToken, TaskTracker),
    ) -> Self {
        let streams = Arc::new(Semaphore::new(settings.max_sockets.min(Semaphore::MAX_PERMITS)));
        let lanes = Lanes::new(settings.max_operations, settings.connections);
        let names = Names::new(&settings.named_operations);
        let (attach, runs) = (Box::new(attach), Runs::default());
        Self {
            inner: Arc::new(Inner { executor, guard, attach, settings, streams, lanes, names, runs, open, shutdown }),
        }
    }
}

/// Routes of the endpoint: GET and POST, WebSocket upgrades and event streams on [`PATH`], with CORS for its origins. Behind
/// that, and before everything else, stands `front`.
pub(crate) fn router<E: Executor>(
    endpoint: Endpoint<E>,
    front: impl FnOnce(MethodRouter<Endpoint<E>>) -> MethodRouter<Endpoint<E>>,
) -> Router {
    let cors = endpoint.inner.settings.origins.layer();
    // OPTIONS has to be a method of the path: what is answered to a method that is not is the outer router's affair.
    let methods = get(http::serve::<E>).post(http::serve::<E>).options(|| async { StatusCode::NO_CONTENT });
    Router::new().route(PATH, front(methods).layer(cors)).with_state(endpoint)
}

/// The answer of those in front of the endpoint who let a request no further.
pub(crate) fn refuse(status: StatusCode, refusal: Refusal) -> HttpResponse {
    answer::refused(status, accept::Media::Json, refusal)
}

/// One of the streams that this process may hold open; given back when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _open: TaskTrackerToken,
}

impl Place {
    /// `None` when all are taken.
    fn take<E>(endpoint: &Endpoint<E>) -> Option<Self> {
        let permit = Arc::clone(&endpoint.inner.streams).try_acquire_owned().ok()?;
        gauge!(SOCKETS).increment(1);
        Some(Self { _permit: permit, _open: endpoint.inner.open.token() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(SOCKETS).decrement(1);
    }
}

const REQUESTS: &str = "gateway_graphql_requests_total";
const OPERATIONS: &str = "gateway_graphql_operations_total";
const DURATION: &str = "gateway_graphql_duration_seconds";
const SOCKETS: &str = "gateway_graphql_sockets";
const SUBSCRIPTIONS: &str = "gateway_graphql_subscriptions";
const SHARED_RUNS: &str = "gateway_graphql_shared_runs";
const SHARED_LAGS: &str = "gateway_graphql_shared_lags_total";
const CLOSED: &str = "gateway_graphql_sockets_closed_total";

/// Describes the metrics of this module to the recorder.
pub(crate) fn describe_metrics() {
    describe_counter!(REQUESTS, "GraphQL operations by operation_type and by the code of their first error");
    describe_counter!(
        OPERATIONS,
        "GraphQL operations by name, where it is one of graphql.named_operations, and by the code of their first error"
    );
    for code in Code::ALL.iter().map(|code| code.as_str()).chain(["OK", "OTHER"]) {
        for operation_type in ["query", "mutation", "subscription", "unknown"] {
            counter!(REQUESTS, "operation_type" => operation_type, "code" => code).increment(0);
        }
    }
    describe_histogram!(DURATION, Unit::Seconds, "Time from a checked query or mutation to its answer");
    describe_gauge!(SOCKETS, "Open WebSockets and event streams");
    describe_gauge!(SUBSCRIPTIONS, "Running subscriptions");
    describe_gauge!(SHARED_RUNS, "Executions of subscriptions that all subscribers who mean the same share");
    describe_counter!(SHARED_LAGS, "Times that a subscriber fell behind its shared execution and caught up alone");
    counter!(SHARED_LAGS).increment(0);
    describe_counter!(
        CLOSED,
        "Closed WebSockets by close code; `left` by the client, `gone` without a word, `slow` for readers cut off"
    );
}
