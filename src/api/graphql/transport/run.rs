//! From parameters to answers: guard, data, execution, codes, figures. The same for all transports.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use async_graphql::{Executor, Request, Response, parser::types::OperationType};
use axum::http::header;
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use metrics::{counter, gauge, histogram};
use tokio::time::timeout;
use tracing::{Instrument as _, field::Empty, info_span};

use super::{
    DURATION, Endpoint, OPERATIONS, REQUESTS, RequestInfo, SUBSCRIPTIONS,
    names::REFUSED,
    parameters::Parameters,
    reply,
    turn::{Events, Turn},
};
use crate::{
    api::{
        graphql::guard::{Code, Refusal},
        http::trace::cause,
    },
    telemetry::caused,
};

/// Why an operation does not run.
enum Why {
    Refused(Refusal),
    Panicked(Box<dyn Any + Send>),
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Box<dyn Any + Send>> for Why {
    fn from(panic: Box<dyn Any + Send>) -> Self {
        Self::Panicked(panic)
    }
}

/// An operation that passed the guard.
pub(super) struct Prepared {
    request: Request,
    cost: u64,
    pub(super) operation: OperationType,
    /// For figures and spans.
    name: Arc<str>,
    /// What the caller was doing.
    cause: Option<String>,
}

impl<E: Executor> Endpoint<E> {
    /// Checks an operation and gives it its data, or says why it may not run.
    pub(super) async fn prepare(&self, parameters: Parameters, info: &RequestInfo) -> Result<Prepared, Box<Response>> {
        // The parser is foreign code that reads hostile text.
        let prepared = catch_unwind(AssertUnwindSafe(|| -> Result<_, Refusal> {
            let Parameters { query, operation_name, variables, extensions } = parameters;
            let checked = self.inner.guard.check(&query, operation_name.as_deref(), &variables)?;
            tracing::debug!(
                operation = checked.operation_name,
                cost = checked.cost,
                depth = checked.depth,
                transport = ?info.transport,
                user_agent = ?info.headers.get(header::USER_AGENT),
                init_payload = info.init.is_some(),
                "a GraphQL operation passed the guard"
            );
            let name = self.inner.names.label(checked.operation_name.as_deref());
            let cause = cause(&info.headers).map(str::to_owned);
            let mut request = Request::new(query).variables(variables);
            request.operation_name = checked.operation_name;
            request.extensions = extensions;
            request.set_parsed_query(checked.document.as_ref().clone());
            Ok(Prepared { request, cost: checked.cost, operation: checked.operation_type, name, cause })
        }));
        let attached = async {
            let mut prepared = prepared??;
            let attach = async { self.inner.attach.attach(info).await };
            prepared.request.data = AssertUnwindSafe(attach).catch_unwind().await??;
            Ok(prepared)
        };
        let refused = match attached.await {
            Ok(prepared) => return Ok(prepared),
            Err(Why::Refused(refusal)) => reply::refused(refusal),
            Err(Why::Panicked(panic)) => reply::panicked(&*panic),
        };
        count("unknown", REFUSED, &refused);
        Err(Box::new(refused))
    }

    /// Runs a query or a mutation: once there is a place for it, and no longer than its time limit.
    ///
    /// A caller who leaves stops nothing that has begun: the database would go on all the same, and hold a connection, so
    /// that the place has to be held as long.
    pub(super) async fn execute(&self, prepared: Prepared) -> Response {
        let (kind, name) = (label(prepared.operation), Arc::clone(&prepared.name));
        let span = info_span!(
            "graphql.execute",
            trace_id = Empty,
            operation = &*name,
            operation_type = kind,
            cost = prepared.cost,
            code = Empty,
        );
        let span = caused(span, prepared.cause.as_deref());
        let response = self.execute_in_turn(prepared, kind).instrument(span.clone()).await;
        span.record("code", reply::label(&response));
        count(kind, &name, &response);
        response
    }

    async fn execute_in_turn(&self, prepared: Prepared, kind: &'static str) -> Response {
        match self.inner.lanes.enter(prepared.cost, self.inner.settings.queue_timeout).await {
            Some(place) => {
                let endpoint = self.clone();
                let work = async move {
                    let response = endpoint.run(prepared.request, kind).await;
                    drop(place);
                    response
                };
                tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| match error.try_into_panic() {
                    Ok(panic) => reply::panicked(&*panic),
                    Err(_) => reply::refused(Refusal::new(Code::Unavailable, "the process ends")),
                })
            }
            None => reply::refused(Refusal::new(Code::Unavailable, "too many operations are running; try again")),
        }
    }

    async fn run(&self, request: Request, kind: &'static str) -> Response {
        let limit = self.inner.settings.operation_timeout;
        let started = Instant::now();
        let run = AssertUnwindSafe(self.inner.executor.execute(request)).catch_unwind();
        let response = match timeout(limit, run).await {
            Ok(Ok(response)) => reply::tidy(response),
            Ok(Err(panic)) => reply::panicked(&*panic),
            Err(_) => reply::refused(Refusal::new(Code::Timeout, format!("stopped after {} s", limit.as_secs_f64()))),
        };
        histogram!(DURATION, "operation_type" => kind).record(started.elapsed());
        response
    }

    /// Starts a subscription. A panic is the last of its events, and so is an event that takes too long.
    ///
    /// One event is executed at a time, when the reader has taken those before and it is its [turn](super::turn).
    pub(super) fn subscribe(&self, prepared: Prepared) -> BoxStream<'static, Response> {
        let mut tally = Tally::start(prepared.name);
        let turn = Turn::new(self.inner.lanes.events());
        let mut request = prepared.request;
        request.data.insert(turn.clone());
        let events = self.inner.executor.execute_stream(request, None);
        let results = AssertUnwindSafe(events)
            .catch_unwind()
            .map(|event| event.map_or_else(|panic| reply::panicked(&*panic), reply::tidy))
            .boxed();
        Events::new(turn, self.inner.settings.operation_timeout, results)
            .inspect(move |response| tally.saw(response))
            .boxed()
    }
}

fn label(operation: OperationType) -> &'static str {
    match operation {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

fn count(operation_type: &'static str, name: &str, response: &Response) {
    let code = reply::label(response);
    counter!(REQUESTS, "operation_type" => operation_type, "code" => code).increment(1);
    counter!(OPERATIONS, "operation" => name.to_owned(), "code" => code).increment(1);
}

/// Counts a subscription by its first result, or as fine when it ends without one, and as running until it is dropped.
struct Tally {
    name: Arc<str>,
    counted: bool,
}

impl Tally {
    fn start(name: Arc<str>) -> Self {
        gauge!(SUBSCRIPTIONS).increment(1);
        Self { name, counted: false }
    }

    fn saw(&mut self, response: &Response) {
        if !std::mem::replace(&mut self.counted, true) {
            count("subscription", &self.name, response);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.saw(&Response::default());
        gauge!(SUBSCRIPTIONS).decrement(1);
    }
}
