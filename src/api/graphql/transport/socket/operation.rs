//! One operation of a socket: in a task of its own while something is executed for it alone, and in the socket's while it
//! is a member of a shared run.

use std::sync::Arc;

use async_graphql::{Executor, parser::types::OperationType};
use tokio::sync::mpsc;

use super::message::{Said, told};
use crate::api::graphql::transport::{
    Endpoint, RequestInfo,
    frame::Frame,
    parameters::Parameters,
    share::{Follower, Told},
};

/// A message of an operation. The number tells operations apart that used the same id one after the other.
pub(super) struct Outgoing<E> {
    pub(super) number: u64,
    pub(super) id: Arc<str>,
    pub(super) what: What<E>,
}

/// What an operation has to say to its socket.
pub(super) enum What<E> {
    /// To be written.
    Text(String),
    /// To be written, and the end.
    Last(String),
    /// From now on it is a member of a shared run.
    Member(Box<Follower<E>>),
}

/// An operation, where it runs in a task of its own.
pub(super) struct Operation<E> {
    pub(super) number: u64,
    pub(super) id: Arc<str>,
    pub(super) info: Arc<RequestInfo>,
    pub(super) queue: mpsc::Sender<Box<Outgoing<E>>>,
}

impl<E: Executor> Operation<E> {
    /// Begins.
    pub(super) async fn run(self, endpoint: Endpoint<E>, parameters: Parameters) {
        let prepared = match endpoint.prepare(parameters, &self.info).await {
            Ok(prepared) => prepared,
            Err(refused) => {
                let refused = Said::Error { id: &self.id, payload: &refused.errors }.text();
                return self.end(refused).await;
            }
        };
        if prepared.operation == OperationType::Subscription {
            let follower = Box::new(endpoint.subscribe(prepared));
            self.follow(follower).await;
        } else if self.pass(&Frame::of(&endpoint.execute(prepared).await), true).await {
            self.complete().await;
        }
    }

    /// Goes on after it fell behind.
    pub(super) async fn catch_up(self, mut follower: Box<Follower<E>>) {
        follower.catch_up();
        self.follow(follower).await;
    }

    async fn follow(self, mut follower: Box<Follower<E>>) {
        while follower.is_alone() {
            match follower.next().await {
                Told::Frame(frame, is_first) => {
                    if !self.pass(&frame, is_first).await {
                        return;
                    }
                }
                Told::CaughtUp => {}
                Told::Behind => follower.catch_up(),
                Told::Over => return self.complete().await,
            }
        }
        self.send(What::Member(follower)).await;
    }

    /// Sends a result; false if there will be no more, because the operation never started.
    async fn pass(&self, frame: &Frame, is_first: bool) -> bool {
        let is_refusal = is_first && frame.refusal().is_some();
        let text = told(&self.id, frame, is_refusal);
        self.send(if is_refusal { What::Last(text) } else { What::Text(text) }).await;
        !is_refusal
    }

    async fn complete(&self) {
        self.end(Said::Complete { id: &self.id }.text()).await;
    }

    async fn end(&self, text: Option<String>) {
        if let Some(text) = text {
            self.send(What::Last(text)).await;
        }
    }

    async fn send(&self, what: What<E>) {
        // The receiver goes only with the socket, which ends this task too.
        self.queue.send(Box::new(Outgoing { number: self.number, id: Arc::clone(&self.id), what })).await.ok();
    }
}
