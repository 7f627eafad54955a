//! The life of one socket.
//!
//! One task reads, writes and keeps time; each operation is a task of its own that waits while the queue to the writer is
//! full. A subscription that is a member of a [shared run](super::super::share) needs no task: its results are taken from
//! the run's ring. What is ready at once is written at once. A write that takes too long ends the socket, so that a reader
//! who doesn't read holds a queue of results for as long as that and no longer.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_graphql::Executor;
use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::{FutureExt as _, SinkExt as _, future::poll_immediate};
use metrics::counter;
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    end::{End, Step, after, unreadable, written},
    members::{Live, Members, Shared},
    message::{Heard, Said, told},
    operation::{Operation, Outgoing, What},
};
use crate::api::graphql::{
    guard::{Code, Refusal},
    transport::{CLOSED, Endpoint, RequestInfo, parameters::Parameters, reply},
};

/// Signs of life in a row that may stay without an answer.
const UNANSWERED: u32 = 3;

/// Messages that are written together, if so many are ready.
const BURST: usize = 64;

struct Running {
    number: u64,
    /// Where it runs in a task of its own. Else it is a member of a shared run.
    task: Option<AbortHandle>,
}

/// State of one socket.
pub(super) struct Session<E> {
    endpoint: Endpoint<E>,
    /// Until `connection_init` was accepted it is known without that.
    info: Arc<RequestInfo>,
    is_admitted: bool,
    /// Cancelled when what was shown at `connection_init` opens no more, and on shutdown.
    over: CancellationToken,
    operations: HashMap<Arc<str>, Running>,
    members: Members<E>,
    started: u64,
    tasks: JoinSet<()>,
}

impl<E: Executor> Session<E> {
    pub(super) fn new(endpoint: Endpoint<E>, info: RequestInfo) -> Self {
        let (operations, members, tasks) = (HashMap::new(), Members::new(), JoinSet::new());
        let (info, over) = (Arc::new(info), endpoint.inner.shutdown.child_token());
        Self { endpoint, info, is_admitted: false, over, operations, members, started: 0, tasks }
    }

    /// Serves the socket to its end.
    pub(super) async fn run(mut self, mut socket: Box<WebSocket>, agreed: bool) {
        let end = if agreed { self.serve(&mut socket).await } else { End::Close(4406, "Subprotocol not acceptable") };
        // Operations end before the farewell, which may take a while.
        self.tasks.abort_all();
        self.members.clear();
        counter!(CLOSED, "code" => end.label()).increment(1);
        Box::pin(end.say(*socket)).await;
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let endpoint = self.endpoint.clone();
        let settings = &endpoint.inner.settings;
        // Boxed: the channel keeps room for many, most of which are never there.
        let (queue, mut results) = mpsc::channel::<Box<Outgoing<E>>>(settings.send_queue);
        let over = self.over.clone();
        let mut over = pin!(over.cancelled());
        // One for both times that are kept: until `connection_init`, and then between signs of life.
        let mut alarm = pin!(sleep(settings.init_timeout));
        let mut unanswered = 0;
        loop {
            let step = tokio::select! {
                live = poll_fn(|context| self.members.poll_next(context)) => match self.pass(live, &queue) {
                    Some(text) => self.write_all(socket, text, &mut results, &queue).await,
                    None => Ok(()),
                },
                message = socket.recv() => {
                    unanswered = 0;
                    let was_admitted = self.is_admitted;
                    let heard = Box::pin(self.hear(message, &queue)).await;
                    if self.is_admitted && !was_admitted {
                        alarm.as_mut().reset(Instant::now() + settings.keepalive);
                    }
                    match heard {
                        Ok(Some(text)) => within(settings.write_timeout, socket.send(Message::Text(text.into()))).await,
                        Ok(None) => Ok(()),
                        Err(end) => Err(end),
                    }
                }
                Some(result) = results.recv() => match self.release(*result) {
                    Some(text) => self.write_all(socket, text, &mut results, &queue).await,
                    None => Ok(()),
                },
                Some(ended) = self.tasks.join_next() => after(ended),
                () = &mut over => Err(if endpoint.inner.shutdown.is_cancelled() {
                    End::Close(close_code::RESTART, "Service Restart")
                } else {
                    End::Close(4401, "Unauthorized")
                }),
                () = &mut alarm => if !self.is_admitted {
                    Err(End::Close(4408, "Connection initialisation timeout"))
                } else if unanswered == UNANSWERED {
                    Err(End::Gone)
                } else {
                    unanswered += 1;
                    alarm.as_mut().reset(Instant::now() + settings.keepalive);
                    within(settings.write_timeout, socket.send(Message::Ping(bytes::Bytes::new()))).await
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Writes a message together with those that are ready behind it.
    async fn write_all(
        &mut self,
        socket: &mut WebSocket,
        text: String,
        results: &mut mpsc::Receiver<Box<Outgoing<E>>>,
        queue: &mpsc::Sender<Box<Outgoing<E>>>,
    ) -> Step {
        let limit = self.endpoint.inner.settings.write_timeout;
        within(limit, async {
            socket.feed(Message::Text(text.into())).await?;
            for _ in 1..BURST {
                let ready = poll_fn(|context| Poll::Ready(self.ready(results, queue, context)));
                let Some(text) = ready.await else { break };
                socket.feed(Message::Text(text.into())).await?;
            }
            socket.flush().await
        })
        .await
    }

    /// The next message that needs no waiting.
    fn ready(
        &mut self,
        results: &mut mpsc::Receiver<Box<Outgoing<E>>>,
        queue: &mpsc::Sender<Box<Outgoing<E>>>,
        context: &mut Context<'_>,
    ) -> Option<String> {
        loop {
            let text = if let Ok(result) = results.try_recv() {
                self.release(*result)
            } else if let Poll::Ready(live) = self.members.poll_next(context) {
                self.pass(live, queue)
            } else {
                return None;
            };
            if text.is_some() {
                return text;
            }
        }
    }

    /// Acts on what came in; the text is the answer.
    async fn hear(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
        queue: &mpsc::Sender<Box<Outgoing<E>>>,
    ) -> Step<Option<String>> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => return Err(End::Close(4400, "message is not text")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(None),
            Some(Ok(Message::Close(_))) => return Err(End::Left),
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(unreadable(&error)),
        };
        let heard = Heard::parse(&text).map_err(|reason| End::Close(4400, reason))?;
        Ok(match heard {
            Heard::Init(payload) => {
                self.admit(payload).await?;
                Said::ConnectionAck.text()
            }
            Heard::Ping(payload) => Said::Pong { payload }.text(),
            Heard::Pong => None,
            Heard::Subscribe { id, payload } => self.start(id.into(), payload, queue)?,
            Heard::Complete { id } => {
                self.stop(&id);
                None
            }
        })
    }

    async fn admit(&mut self, payload: Option<Map<String, Value>>) -> Step {
        if self.is_admitted {
            return Err(End::Close(4429, "Too many initialisation requests"));
        }
        let mut info = RequestInfo { init: payload, ..(*self.info).clone() };
        let inner = &self.endpoint.inner;
        let admits = AssertUnwindSafe(async { inner.attach.admits(&mut info).await }).catch_unwind();
        match timeout(inner.settings.init_timeout, admits).await {
            Ok(Ok(Ok(is_somebody))) => {
                if let Some(expires) = is_somebody.then(|| inner.attach.expires(&info)).flatten() {
                    let over = self.over.clone();
                    self.tasks.spawn(async move {
                        expires.await;
                        over.cancel();
                    });
                }
                (self.info, self.is_admitted) = (Arc::new(info), true);
                Ok(())
            }
            Ok(Ok(Err(Refusal { code: Code::Unavailable, .. }))) | Err(_) => {
                Err(End::Close(close_code::AGAIN, "Try Again Later"))
            }
            Ok(Ok(Err(Refusal { code: Code::Internal, .. }))) => Err(End::Close(4500, "Internal server error")),
            Ok(Ok(Err(Refusal { code: Code::NotFound, .. }))) => Err(End::Close(4404, "Tenant not found")),
            Ok(Ok(Err(_))) => Err(End::Close(4403, "Forbidden")),
            Ok(Err(panic)) => {
                reply::panicked(&*panic);
                Err(End::Close(4500, "Internal server error"))
            }
        }
    }

    fn start(
        &mut self,
        id: Arc<str>,
        payload: Map<String, Value>,
        queue: &mpsc::Sender<Box<Outgoing<E>>>,
    ) -> Step<Option<String>> {
        if !self.is_admitted {
            return Err(End::Close(4401, "Unauthorized"));
        }
        if self.operations.contains_key(&id) {
            return Err(End::Close(4409, "Subscriber for this id already exists"));
        }
        let inner = &self.endpoint.inner;
        if self.operations.len() >= inner.settings.socket_operations {
            let most = inner.settings.socket_operations;
            let message = format!("more than {most} operations at once on one socket");
            let refused = reply::refused(Refusal::new(Code::RateLimited, message));
            return Ok(Said::Error { id: &id, payload: &refused.errors }.text());
        }
        let parameters = match Parameters::from_object(payload, inner.guard.limits()) {
            Ok(parameters) => parameters,
            Err(Refusal { code: Code::BadInput, .. }) => {
                return Err(End::Close(4400, "payload of subscribe is not a GraphQL request"));
            }
            Err(refusal) => {
                let refused = reply::refused(refusal);
                return Ok(Said::Error { id: &id, payload: &refused.errors }.text());
            }
        };
        self.started += 1;
        let operation = self.operation(self.started, &id, queue);
        let task = self.tasks.spawn(operation.run(self.endpoint.clone(), parameters));
        self.operations.insert(id, Running { number: self.started, task: Some(task) });
        Ok(None)
    }

    fn stop(&mut self, id: &str) {
        match self.operations.remove(id) {
            Some(Running { task: Some(task), .. }) => task.abort(),
            Some(Running { number, task: None }) => self.members.remove(number),
            None => {}
        }
    }

    fn operation(&self, number: u64, id: &Arc<str>, queue: &mpsc::Sender<Box<Outgoing<E>>>) -> Operation<E> {
        Operation { number, id: Arc::clone(id), info: Arc::clone(&self.info), queue: queue.clone() }
    }

    fn is_running(&self, number: u64, id: &str) -> bool {
        self.operations.get(id).is_some_and(|running| running.number == number)
    }

    /// The text of a result, unless its operation was stopped while the result waited. When the socket is to be closed, nothing
    /// is said any more: an operation that fails or ends only because everything does would seem to do so by itself.
    fn release(&mut self, outgoing: Outgoing<E>) -> Option<String> {
        let Outgoing { number, id, what } = outgoing;
        if self.over.is_cancelled() || !self.is_running(number, &id) {
            return None;
        }
        match what {
            What::Text(text) => Some(text),
            What::Last(text) => {
                self.operations.remove(&id);
                Some(text)
            }
            What::Member(follower) => {
                self.members.add(number, Arc::clone(&id), follower);
                self.operations.insert(id, Running { number, task: None });
                None
            }
        }
    }

    /// The text of what a shared run tells, with the same exception. Who was stopped is no member any more, and told nothing.
    fn pass(&mut self, live: Live<E>, queue: &mpsc::Sender<Box<Outgoing<E>>>) -> Option<String> {
        if self.over.is_cancelled() {
            return None;
        }
        let Live { number, id, what } = live;
        match what {
            Shared::Frame(frame, is_first) => {
                let is_refusal = is_first && frame.refusal().is_some();
                if is_refusal {
                    self.stop(&id);
                }
                Some(told(&id, &frame, is_refusal))
            }
            Shared::Behind(follower) => {
                let operation = self.operation(number, &id, queue);
                let task = self.tasks.spawn(operation.catch_up(follower));
                self.operations.insert(id, Running { number, task: Some(task) });
                None
            }
            Shared::Over => {
                self.operations.remove(&id);
                Said::Complete { id: &id }.text()
            }
        }
    }
}

/// Writes within so much time. Most writes end at once, and a timer would cost as much as they do.
async fn within(limit: Duration, write: impl Future<Output = Result<(), axum::Error>>) -> Step {
    let mut write = pin!(write);
    let outcome = match poll_immediate(&mut write).await {
        Some(outcome) => Ok(outcome),
        None => timeout(limit, write).await,
    };
    written(&outcome)
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};

    use super::*;

    struct Query;

    #[Object]
    impl Query {
        async fn ok(&self) -> bool {
            true
        }
    }

    type TestSession = Session<Schema<Query, EmptyMutation, EmptySubscription>>;

    fn future_of<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// There are thousands of them, most of which wait.
    #[test]
    fn a_waiting_socket_is_small() {
        let (session, whole) = (size_of::<TestSession>(), future_of(TestSession::run));
        assert!(whole < 3_000 && size_of::<WebSocket>() < 1_000, "{session} {whole} {}", size_of::<WebSocket>());
    }
}
