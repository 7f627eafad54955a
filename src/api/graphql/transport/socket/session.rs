//! The life of one socket.
//!
//! One task reads, writes and keeps time; each operation is a task of its own that waits while the queue to the writer is
//! full. A write that takes too long ends the socket, so that a reader who doesn't read holds a queue of results for as
//! long as that and no longer.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Executor, Response, parser::types::OperationType};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Duration, Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::message::{Heard, Said};
use crate::api::graphql::{
    guard::{Code, Refusal},
    transport::{CLOSED, Endpoint, RequestInfo, parameters::Parameters, reply},
};

/// Time for the other side to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);

/// Signs of life in a row that may stay without an answer.
const UNANSWERED: u32 = 3;

/// Why a socket ends.
enum End {
    /// We say so, with a code and a reason of at most 123 bytes.
    Close(u16, &'static str),
    /// The other side says so.
    Left,
    /// The other side is gone.
    Gone,
    /// The other side doesn't read.
    Slow,
}

type Step<T = ()> = Result<T, End>;

/// A message of an operation. The number tells operations apart that used the same id one after the other.
struct Outgoing {
    number: u64,
    id: Arc<str>,
    text: String,
    last: bool,
}

struct Running {
    number: u64,
    task: AbortHandle,
}

/// State of one socket.
pub(super) struct Session<E> {
    endpoint: Endpoint<E>,
    /// `None` until `connection_init` was accepted.
    admitted: Option<Arc<RequestInfo>>,
    info: RequestInfo,
    /// Cancelled when what was shown at `connection_init` opens no more.
    expired: CancellationToken,
    operations: HashMap<Arc<str>, Running>,
    started: u64,
    tasks: JoinSet<()>,
}

impl<E: Executor> Session<E> {
    pub(super) fn new(endpoint: Endpoint<E>, info: RequestInfo) -> Self {
        let (operations, tasks) = (HashMap::new(), JoinSet::new());
        Self { endpoint, admitted: None, info, expired: CancellationToken::new(), operations, started: 0, tasks }
    }

    /// Serves the socket to its end.
    pub(super) async fn run(mut self, mut socket: WebSocket, agreed: bool) {
        let end = if agreed { self.serve(&mut socket).await } else { End::Close(4406, "Subprotocol not acceptable") };
        // Operations end before the farewell, which may take a while.
        self.tasks.abort_all();
        let label = match &end {
            End::Close(code, _) => code.to_string(),
            End::Left => "left".to_owned(),
            End::Gone => "gone".to_owned(),
            End::Slow => "slow".to_owned(),
        };
        counter!(CLOSED, "code" => label).increment(1);
        if matches!(end, End::Close(..) | End::Left) {
            timeout(FAREWELL, farewell(socket, end)).await.ok();
        }
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let endpoint = self.endpoint.clone();
        let settings = &endpoint.inner.settings;
        let (queue, mut results) = mpsc::channel(settings.send_queue);
        let init_deadline = Instant::now() + settings.init_timeout;
        let mut keepalive = interval_at(Instant::now() + settings.keepalive, settings.keepalive);
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            let step = tokio::select! {
                () = endpoint.inner.shutdown.cancelled() => Err(End::Close(close_code::RESTART, "Service Restart")),
                message = socket.recv() => {
                    unanswered = 0;
                    match self.hear(message, &queue).await {
                        Ok(Some(text)) => self.write(socket, Message::Text(text.into())).await,
                        Ok(None) => Ok(()),
                        Err(end) => Err(end),
                    }
                }
                Some(result) = results.recv() => match self.release(result) {
                    Some(text) => self.write(socket, Message::Text(text.into())).await,
                    None => Ok(()),
                },
                Some(ended) = self.tasks.join_next() => after(ended),
                () = self.expired.cancelled() => Err(End::Close(4401, "Unauthorized")),
                () = sleep_until(init_deadline), if self.admitted.is_none() => {
                    Err(End::Close(4408, "Connection initialisation timeout"))
                }
                _ = keepalive.tick() => {
                    if unanswered == UNANSWERED {
                        Err(End::Gone)
                    } else {
                        unanswered += 1;
                        self.write(socket, Message::Ping(bytes::Bytes::new())).await
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn write(&self, socket: &mut WebSocket, message: Message) -> Step {
        match timeout(self.endpoint.inner.settings.write_timeout, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }

    /// Acts on what came in; the text is the answer.
    async fn hear(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
        queue: &mpsc::Sender<Outgoing>,
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
                if let Some(running) = self.operations.remove(id.as_str()) {
                    running.task.abort();
                }
                None
            }
        })
    }

    async fn admit(&mut self, payload: Option<Map<String, Value>>) -> Step {
        if self.admitted.is_some() {
            return Err(End::Close(4429, "Too many initialisation requests"));
        }
        let mut info = RequestInfo { init: payload, ..self.info.clone() };
        let inner = &self.endpoint.inner;
        let admits = AssertUnwindSafe(async { inner.attach.admits(&mut info).await }).catch_unwind();
        match timeout(inner.settings.init_timeout, admits).await {
            Ok(Ok(Ok(()))) => {
                if let Some(expires) = inner.attach.expires(&info) {
                    let expired = self.expired.clone();
                    self.tasks.spawn(async move {
                        expires.await;
                        expired.cancel();
                    });
                }
                self.admitted = Some(Arc::new(info));
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
        queue: &mpsc::Sender<Outgoing>,
    ) -> Step<Option<String>> {
        let Some(info) = &self.admitted else { return Err(End::Close(4401, "Unauthorized")) };
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
        let operation =
            Operation { number: self.started, id: Arc::clone(&id), info: Arc::clone(info), queue: queue.clone() };
        let task = self.tasks.spawn(operation.run(self.endpoint.clone(), parameters));
        self.operations.insert(id, Running { number: self.started, task });
        Ok(None)
    }

    /// The text of a result, unless its operation was stopped while the result waited.
    fn release(&mut self, result: Outgoing) -> Option<String> {
        let running = self.operations.get(&result.id)?;
        if running.number != result.number {
            return None;
        }
        if result.last {
            self.operations.remove(&result.id);
        }
        Some(result.text)
    }
}

/// Says why the socket ends, and answers the other side's close.
///
/// Closing with unread input makes the system reset the connection and drop the code on its way, so what still comes is
/// read. A message that cannot be read ends reading for good: then the other side is given the time to take the code.
async fn farewell(mut socket: WebSocket, end: End) {
    let mut readable = true;
    if let End::Close(code, reason) = end {
        readable = !matches!(code, close_code::SIZE | close_code::INVALID);
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok();
    }
    while let Some(Ok(_)) = socket.recv().await {}
    if !readable {
        sleep(FAREWELL).await;
    }
}

/// A message that cannot be read: too large, not a WebSocket's, or the connection broke.
fn unreadable(error: &axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error;
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Capacity(_)) => End::Close(close_code::SIZE, "message too large"),
        Some(Error::Utf8(_)) => End::Close(close_code::INVALID, "message is not UTF-8"),
        _ => End::Gone,
    }
}

/// Operations catch their own panics; what escapes is a fault in the serving itself.
fn after(ended: Result<(), JoinError>) -> Step {
    match ended {
        Err(error) if error.is_panic() => {
            reply::panicked(&*error.into_panic());
            Err(End::Close(4500, "Internal server error"))
        }
        _ => Ok(()),
    }
}

/// One operation of a socket.
struct Operation {
    number: u64,
    id: Arc<str>,
    info: Arc<RequestInfo>,
    queue: mpsc::Sender<Outgoing>,
}

impl Operation {
    async fn run<E: Executor>(self, endpoint: Endpoint<E>, parameters: Parameters) {
        let prepared = match endpoint.prepare(parameters, &self.info).await {
            Ok(prepared) => prepared,
            Err(refused) => return self.send(Said::Error { id: &self.id, payload: &refused.errors }, true).await,
        };
        if prepared.operation == OperationType::Subscription {
            let mut results = endpoint.subscribe(prepared);
            let mut first = true;
            while let Some(response) = results.next().await {
                if !self.pass(&response, std::mem::take(&mut first)).await {
                    return;
                }
            }
        } else if !self.pass(&endpoint.execute(prepared).await, true).await {
            return;
        }
        self.send(Said::Complete { id: &self.id }, true).await;
    }

    /// Sends a result; false if there will be no more, because the operation never started.
    async fn pass(&self, response: &Response, first: bool) -> bool {
        let refused = first && reply::is_request_error(response);
        if refused {
            self.send(Said::Error { id: &self.id, payload: &response.errors }, true).await;
        } else {
            self.send(Said::next(&self.id, response), false).await;
        }
        !refused
    }

    async fn send(&self, message: Said<'_>, last: bool) {
        let Some(text) = message.text() else { return };
        // The receiver goes only with the socket, which ends this task too.
        self.queue.send(Outgoing { number: self.number, id: Arc::clone(&self.id), text, last }).await.ok();
    }
}
