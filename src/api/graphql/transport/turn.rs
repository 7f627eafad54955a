//! Turns of subscriptions: how many of their events are executed at once in this process, and for how long.
//!
//! The library runs a subscription as one stream, which waits for its source and executes events in turn, and does not
//! tell which of the two it does. So the source says it ([`Turn::pace`]): it takes a place before it hands an event over,
//! and the place is free again with the result. Who waits for a place is not turned away; the change log does not wait
//! for it, a subscriber that fell behind reads it again. The start of a subscription takes a place too.

use std::{
    mem::replace,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_graphql::Response;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::poll_fn, stream, stream::BoxStream};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout_at},
};

use super::reply;
use crate::api::graphql::guard::{Code, Refusal};

/// The place of one subscription, which it has while it executes an event. In the data of every subscription.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    line: Arc<Semaphore>,
    held: Arc<Mutex<Option<Held>>>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Turn {
    pub(super) fn new(line: &Arc<Semaphore>) -> Self {
        Self { line: Arc::clone(line), held: Arc::default() }
    }

    /// The items of a source of events, each of which waits for its turn. To be called when the start is over. A
    /// subscription that does not use it has a place for its start and its first event only, within one time limit.
    pub(crate) fn pace<S: Stream>(turn: Option<&Self>, source: S) -> impl Stream<Item = S::Item> + use<S> {
        let turn = turn.cloned();
        if let Some(turn) = &turn {
            turn.give_back();
        }
        source.then(move |item| {
            let turn = turn.clone();
            async move {
                if let Some(turn) = turn {
                    turn.take().await;
                }
                item
            }
        })
    }

    async fn take(&self) {
        // The line is never closed.
        let Ok(place) = Arc::clone(&self.line).acquire_owned().await else { return };
        *self.held() = Some(Held { since: Instant::now(), _place: place });
    }

    fn give_back(&self) {
        *self.held() = None;
    }

    fn since(&self) -> Option<Instant> {
        self.held().as_ref().map(|held| held.since)
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of a subscription. One that takes longer than the time limit is the last: the caller goes on with the
/// cursor of the one before.
///
/// What is dropped in the middle of an event ends that first, within the limit: its statements hold connections as long.
pub(super) struct Events {
    turn: Turn,
    limit: Duration,
    results: BoxStream<'static, Response>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Events {
    /// Begins with a place for the start.
    pub(super) fn new(turn: Turn, limit: Duration, results: BoxStream<'static, Response>) -> Self {
        let start = turn.clone();
        let results = async move {
            start.take().await;
            results
        };
        Self { turn, limit, results: results.flatten_stream().fuse().boxed(), timer: None }
    }

    /// Whether an event has its turn, so that its result is to come.
    pub(super) fn is_executing(&self) -> bool {
        self.turn.since().is_some()
    }
}

impl Stream for Events {
    type Item = Response;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Response>> {
        let this = self.get_mut();
        if let Poll::Ready(result) = this.results.poll_next_unpin(context) {
            this.turn.give_back();
            return Poll::Ready(result);
        }
        // Turns begin in the poll above and nowhere else, so that a timer for each is set in time.
        let Some(since) = this.turn.since() else { return Poll::Pending };
        let deadline = since + this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        this.results = stream::empty().boxed();
        this.turn.give_back();
        let message = format!("an event took more than {} s; the subscription ends", this.limit.as_secs_f64());
        Poll::Ready(Some(reply::refused(Refusal::new(Code::Timeout, message))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let (Some(since), Ok(runtime)) = (self.turn.since(), Handle::try_current()) else { return };
        let (turn, deadline) = (self.turn.clone(), since + self.limit);
        let mut results = replace(&mut self.results, stream::empty().boxed());
        runtime.spawn(async move {
            let work = poll_fn(|context| match results.poll_next_unpin(context) {
                Poll::Pending if turn.since() == Some(since) => Poll::Pending,
                _ => Poll::Ready(()),
            });
            timeout_at(deadline, work).await.ok();
            turn.give_back();
        });
    }
}
