//! From parameters to answers: guard, data, execution, codes, figures. The same for all transports.

use std::{
    any::{Any, TypeId},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use async_graphql::{
    Data, Executor, Extensions, Request, Response, Variables,
    parser::types::{ExecutableDocument, OperationType},
};
use axum::http::header;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::{counter, gauge, histogram};
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::{
    DURATION, Endpoint, Named, OPERATIONS, REQUESTS, RequestInfo, SUBSCRIPTIONS, Sender, Transport,
    course::Course,
    names::REFUSED,
    parameters::Parameters,
    reply,
    share::{Alone, Asked, Wish},
    span,
    turn::{Events, Turn},
};
use crate::api::{
    graphql::guard::{Checked, Code, Refusal},
    http::trace::cause,
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
    pub(super) recipe: Recipe,
    pub(super) data: Data,
    pub(super) cost: u64,
    pub(super) operation: OperationType,
    pub(super) transport: Transport,
    /// Whether the sender is somebody.
    pub(super) is_somebody: bool,
    /// For a subscription that may be shared.
    pub(super) wish: Option<Wish>,
    /// For figures.
    pub(super) name: Arc<str>,
    /// What the caller was doing.
    pub(super) cause: Option<String>,
}

impl Prepared {
    /// Who sent it, where that is known.
    pub(super) fn named(&self) -> Option<&Named> {
        self.data.get(&TypeId::of::<Named>())?.downcast_ref()
    }
}

/// What to execute, as often as is needed.
#[derive(Clone)]
pub(super) struct Recipe {
    query: String,
    operation_name: Option<String>,
    variables: Variables,
    extensions: Extensions,
    document: Arc<ExecutableDocument>,
}

impl Recipe {
    /// The name of the operation, where it has one.
    pub(super) fn operation(&self) -> Option<&str> {
        self.operation_name.as_deref()
    }

    /// One execution of it, with its own data.
    pub(super) fn request(&self, data: Data) -> Request {
        self.clone().into_request(data)
    }

    /// Its only execution.
    pub(super) fn into_request(self, data: Data) -> Request {
        let mut request = Request::new(self.query).variables(self.variables);
        request.operation_name = self.operation_name;
        request.extensions = self.extensions;
        request.data = data;
        request.set_parsed_query(self.document.as_ref().clone());
        request
    }
}

impl<E: Executor> Endpoint<E> {
    /// Checks an operation and gives it its data, or says why it may not run.
    pub(super) async fn prepare(&self, parameters: Parameters, info: &RequestInfo) -> Result<Prepared, Box<Response>> {
        // The parser is foreign code that reads hostile text.
        let prepared = catch_unwind(AssertUnwindSafe(|| -> Result<_, Refusal> {
            let Parameters { query, operation_name: asked, variables, extensions } = parameters;
            let checked = self.inner.guard.check(&query, asked.as_deref(), &variables)?;
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
            let Checked { document, cost, operation_type, operation_name, .. } = checked;
            let recipe = Recipe { query, operation_name, variables, extensions, document };
            let operation = operation_type;
            let (data, is_somebody, transport) = (Data::default(), false, info.transport);
            Ok(Prepared { recipe, data, cost, operation, transport, is_somebody, wish: None, name, cause })
        }));
        let attached = async {
            let mut prepared = prepared.map_err(Why::from)??;
            let sender = self.attach(info).await?;
            prepared.wish = self.wish(&prepared, &sender);
            (prepared.data, prepared.is_somebody) = (sender.data, sender.is_somebody);
            Ok(prepared)
        };
        attached.await.map_err(refuse)
    }

    async fn attach(&self, info: &RequestInfo) -> Result<Sender, Why> {
        let attach = async { self.inner.attach.attach(info).await };
        Ok(AssertUnwindSafe(attach).catch_unwind().await??)
    }

    /// Of a subscription whose sender may share it: runs are executed for nobody in particular, and whoever is somebody must not
    /// be shown less than is theirs.
    fn wish(&self, prepared: &Prepared, sender: &Sender) -> Option<Wish> {
        let shared = self.inner.settings.shared;
        if prepared.operation != OperationType::Subscription || shared.is_empty() {
            return None;
        }
        let audience = sender.audience.as_ref()?;
        let Recipe { query, variables, document, .. } = &prepared.recipe;
        let operation = prepared.recipe.operation();
        if sender.is_somebody && !self.inner.guard.is_impartial(document, operation) {
            return None;
        }
        Wish::of(&Asked { query, document, operation, variables }, audience, shared)
    }

    /// Runs a query or a mutation: once there is a place for it, and no longer than its time limit.
    ///
    /// A caller who leaves stops nothing that has begun: the database would go on all the same, and hold a connection, so
    /// that the place has to be held as long.
    pub(super) async fn execute(&self, prepared: Prepared) -> Response {
        let (kind, name) = (label(prepared.operation), Arc::clone(&prepared.name));
        let span = span::of_execution(&prepared, kind);
        let response = self.execute_in_turn(prepared, kind).instrument(span.clone()).await;
        span.record("code", reply::label(&response));
        count(kind, &name, reply::label(&response));
        response
    }

    async fn execute_in_turn(&self, prepared: Prepared, kind: &'static str) -> Response {
        match self.inner.lanes.enter(prepared.cost, self.inner.settings.queue_timeout).await {
            Some(place) => {
                let endpoint = self.clone();
                let work = async move {
                    let response = endpoint.run(prepared.recipe.into_request(prepared.data), kind).await;
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

    /// Executes a subscription for whoever polls it.
    pub(super) fn alone(&self, mut request: Request, course: Option<Course>) -> Alone {
        let turn = Turn::new(self.inner.lanes.events());
        request.data.insert(turn.clone());
        if let Some(course) = &course {
            request.data.insert(course.clone());
        }
        let events = self.inner.executor.execute_stream(request, None);
        let results = AssertUnwindSafe(events)
            .catch_unwind()
            .map(|event| event.map_or_else(|panic| reply::panicked(&*panic), reply::tidy))
            .boxed();
        Alone::new(Events::new(turn, self.inner.settings.operation_timeout, results), course)
    }
}

fn refuse(why: Why) -> Box<Response> {
    let refused = match why {
        Why::Refused(refusal) => reply::refused(refusal),
        Why::Panicked(panic) => reply::panicked(&*panic),
    };
    count("unknown", REFUSED, reply::label(&refused));
    Box::new(refused)
}

fn label(operation: OperationType) -> &'static str {
    match operation {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

fn count(operation_type: &'static str, name: &str, code: &'static str) {
    counter!(REQUESTS, "operation_type" => operation_type, "code" => code).increment(1);
    counter!(OPERATIONS, "operation" => name.to_owned(), "code" => code).increment(1);
}

/// Counts a subscription by its first result, or as fine when it ends without one, and as running until it is dropped. Its
/// span goes with it.
pub(super) struct Tally {
    name: Arc<str>,
    span: Span,
    results: u64,
}

impl Tally {
    pub(super) fn start(name: Arc<str>, span: Span) -> Self {
        gauge!(SUBSCRIPTIONS).increment(1);
        Self { name, span, results: 0 }
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// A result with this label; true for the first.
    pub(super) fn saw(&mut self, code: &'static str) -> bool {
        self.results += 1;
        let is_first = self.results == 1;
        if is_first {
            self.counts(code);
        }
        is_first
    }

    fn counts(&self, code: &'static str) {
        count("subscription", &self.name, code);
        self.span.record("code", code);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.results == 0 {
            self.counts("OK");
        }
        self.span.record("results", self.results);
        gauge!(SUBSCRIPTIONS).decrement(1);
    }
}
