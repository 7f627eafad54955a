//! From parameters to answers: guard, data, execution, codes, figures. The same for all transports.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use async_graphql::{Executor, Request, Response, parser::types::OperationType};
use axum::http::header;
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use metrics::{counter, gauge, histogram};

use super::{DURATION, Endpoint, REQUESTS, RequestInfo, SUBSCRIPTIONS, parameters::Parameters, reply};
use crate::api::graphql::guard::Refusal;

/// An operation that passed the guard.
pub(super) struct Prepared {
    request: Request,
    pub(super) operation: OperationType,
}

impl<E: Executor> Endpoint<E> {
    /// Checks an operation and gives it its data, or says why it may not run.
    pub(super) fn prepare(&self, parameters: Parameters, info: &RequestInfo) -> Result<Prepared, Box<Response>> {
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
            let mut request = Request::new(query).variables(variables);
            request.operation_name = checked.operation_name;
            request.extensions = extensions;
            request.data = self.inner.attach.attach(info);
            request.set_parsed_query(checked.document.as_ref().clone());
            Ok(Prepared { request, operation: checked.operation_type })
        }));
        let refused = match prepared {
            Ok(Ok(prepared)) => return Ok(prepared),
            Ok(Err(refusal)) => reply::refused(refusal),
            Err(panic) => reply::panicked(&*panic),
        };
        count("unknown", &refused);
        Err(Box::new(refused))
    }

    /// Runs a query or a mutation.
    pub(super) async fn execute(&self, prepared: Prepared) -> Response {
        let kind = label(prepared.operation);
        let started = Instant::now();
        let run = AssertUnwindSafe(self.inner.executor.execute(prepared.request)).catch_unwind().await;
        let response = run.map_or_else(|panic| reply::panicked(&*panic), reply::tidy);
        histogram!(DURATION, "operation_type" => kind).record(started.elapsed());
        count(kind, &response);
        response
    }

    /// Starts a subscription. A panic is the last of its events.
    pub(super) fn subscribe(&self, prepared: Prepared) -> BoxStream<'static, Response> {
        let mut tally = Tally::start();
        let events = self.inner.executor.execute_stream(prepared.request, None);
        AssertUnwindSafe(events)
            .catch_unwind()
            .map(|event| event.map_or_else(|panic| reply::panicked(&*panic), reply::tidy))
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

fn count(operation_type: &'static str, response: &Response) {
    counter!(REQUESTS, "operation_type" => operation_type, "code" => reply::label(response)).increment(1);
}

/// Counts a subscription by its first result, or as fine when it ends without one, and as running until it is dropped.
struct Tally {
    counted: bool,
}

impl Tally {
    fn start() -> Self {
        gauge!(SUBSCRIPTIONS).increment(1);
        Self { counted: false }
    }

    fn saw(&mut self, response: &Response) {
        if !std::mem::replace(&mut self.counted, true) {
            count("subscription", response);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.saw(&Response::default());
        gauge!(SUBSCRIPTIONS).decrement(1);
    }
}
