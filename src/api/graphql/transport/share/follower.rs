//! One subscriber: alone, a member of a run, or on the way from the one to the other.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_graphql::{Executor, Response};
use futures_util::{StreamExt as _, future::poll_fn};
use metrics::counter;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};
use tracing::Instrument as _;

use super::{
    super::{
        Endpoint, SHARED_LAGS,
        course::Course,
        frame::Frame,
        run::{Prepared, Tally},
        span,
        turn::Events,
    },
    Run, Wish,
};

/// What a subscriber gets next.
pub(in super::super) enum Told {
    /// A result, and whether it is the first.
    Frame(Arc<Frame>, bool),
    /// It is a member from now on.
    CaughtUp,
    /// It has fallen behind, and has to [catch up](Follower::catch_up) before it goes on.
    Behind,
    /// There will be no more.
    Over,
}

/// A subscription as its subscriber has it. Dropping it ends it.
///
/// Results come in order, without gaps and, where they have positions, without doubles.
pub(in super::super) struct Follower<E> {
    endpoint: Endpoint<E>,
    tally: Tally,
    alone: Option<Box<Alone>>,
    member: Option<Member>,
}

/// One execution of a subscription, of all members or of one who is behind.
pub(in super::super) struct Alone {
    /// Not before this.
    after: Option<CancellationToken>,
    events: Events,
    course: Option<Course>,
}

/// What was in the ring, with the place that was waited at.
type Received = (Result<Arc<Frame>, RecvError>, Receiver<Arc<Frame>>);

/// A place in a run.
pub(super) struct Member {
    run: Arc<Run>,
    /// Waits in the ring; it gives the place in the ring back with what was there.
    frames: ReusableBoxFuture<'static, Received>,
    /// Everything up to here was handed over, or was there before.
    position: Option<i64>,
    /// The run was begun for it.
    is_first: bool,
    has_heard: bool,
}

impl Alone {
    /// From the results of the library.
    pub(in super::super) fn new(events: Events, course: Option<Course>) -> Self {
        Self { after: None, events, course }
    }

    pub(super) async fn next(&mut self) -> Option<Frame> {
        if let Some(after) = &self.after {
            after.cancelled().await;
            self.after = None;
        }
        let response = self.events.next().await?;
        Some(self.frame(&response))
    }

    /// The next result, where its event is being executed already: nothing is waited for that has yet to happen.
    pub(super) async fn next_under_way(&mut self) -> Option<Frame> {
        let events = &mut self.events;
        let response = poll_fn(|context| match events.poll_next_unpin(context) {
            Poll::Pending if !events.is_executing() => Poll::Ready(None),
            polled => polled,
        });
        let response = response.await?;
        Some(self.frame(&response))
    }

    fn frame(&self, response: &Response) -> Frame {
        Frame::at(response, self.course.as_ref().and_then(Course::position))
    }
}

impl<E: Executor> Endpoint<E> {
    /// Starts a subscription, or joins the others that mean the same. A panic is the last of its events, and so is an event
    /// that takes too long.
    ///
    /// One event is executed at a time, when the reader has taken those before and it is its [turn](super::super::turn).
    pub(in super::super) fn subscribe(&self, prepared: Prepared) -> Follower<E> {
        let span = span::of_subscription(&prepared);
        let Prepared { recipe, data, wish, name, .. } = prepared;
        let (alone, member) = match wish {
            None => (Some(self.alone(recipe.into_request(data), None)), None),
            Some(Wish { key, audience, resumes }) => {
                let recipe = Arc::new(recipe);
                // A member before it begins alone: so nothing falls between the two.
                let member = self.join(key, &recipe, &audience);
                let alone = resumes.then(|| {
                    let after = Some(member.run.course.begun().clone());
                    Alone { after, ..self.for_nobody(&recipe, &audience, Course::up_to_now(None)) }
                });
                (alone, Some(member))
            }
        };
        let (endpoint, tally) = (self.clone(), Tally::start(name, span));
        Follower { endpoint, tally, alone: alone.map(Box::new), member }
    }
}

impl<E: Executor> Follower<E> {
    /// Whether its events are executed for it alone, which should not happen in the middle of something else.
    pub(in super::super) const fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// What comes next. May be dropped at any point and asked again.
    pub(in super::super) async fn next(&mut self) -> Told {
        if let Some(alone) = &mut self.alone {
            // What is executed for it alone is part of its span.
            if let Some(frame) = alone.next().instrument(self.tally.span().clone()).await {
                let is_first = self.tally.saw(frame.label);
                return Told::Frame(Arc::new(frame), is_first);
            }
            let course = alone.course.take().filter(Course::is_complete);
            self.alone = None;
            let (Some(course), Some(member)) = (course, &mut self.member) else {
                self.member = None;
                return Told::Over;
            };
            member.position = course.position().or(member.position);
            return Told::CaughtUp;
        }
        poll_fn(|context| self.poll_member(context)).await
    }

    /// What comes next for a member; who runs alone is none.
    pub(in super::super) fn poll_member(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        let Some(member) = self.member.as_mut().filter(|_| self.alone.is_none()) else {
            return Poll::Ready(Told::Over);
        };
        Poll::Ready(match ready!(member.poll_next(context)) {
            Told::Frame(frame, _) => {
                let is_first = self.tally.saw(frame.label);
                Told::Frame(frame, is_first)
            }
            // Joined at the very end of a run: nobody has told it why, and the next one may go on.
            Told::Over if !member.is_first && !member.has_heard => {
                let (run, position) = (Arc::clone(&member.run), member.position);
                *member = self.endpoint.join(run.key.clone(), &run.recipe, &run.audience);
                member.position = position.or(member.position);
                if position.is_some() { Told::Behind } else { Told::CaughtUp }
            }
            told => told,
        })
    }

    /// Goes on alone, from where it stands up to now.
    pub(in super::super) fn catch_up(&mut self) {
        // Where nothing was told to anybody, nothing is missing.
        let Some(Member { run, position: Some(position), .. }) = &self.member else { return };
        let alone = self.endpoint.for_nobody(&run.recipe, &run.audience, Course::up_to_now(Some(*position)));
        self.alone = Some(Box::new(Alone { after: Some(run.course.begun().clone()), ..alone }));
    }
}

impl Member {
    /// Who listens to a run from here on.
    pub(super) fn new(run: Arc<Run>, frames: Receiver<Arc<Frame>>, position: Option<i64>, is_first: bool) -> Self {
        Self { run, frames: ReusableBoxFuture::new(receive(frames)), position, is_first, has_heard: false }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        loop {
            let (received, frames) = ready!(self.frames.poll(context));
            match received {
                Ok(frame) => {
                    self.frames.set(receive(frames));
                    frame.take();
                    self.has_heard = true;
                    if let Some(position) = frame.position {
                        if self.position.is_some_and(|reached| position <= reached) {
                            continue;
                        }
                        self.position = Some(position);
                    }
                    return Poll::Ready(Told::Frame(frame, false));
                }
                Err(RecvError::Lagged(_)) => {
                    counter!(SHARED_LAGS).increment(1);
                    // Before it begins alone, so that nothing falls between the two.
                    self.frames.set(receive(frames.resubscribe()));
                    self.position = self.position.or_else(|| self.run.before_first());
                    // What it has heard is not how the run ended.
                    (self.is_first, self.has_heard) = (false, false);
                    return Poll::Ready(Told::Behind);
                }
                Err(RecvError::Closed) => {
                    self.frames.set(receive(frames));
                    return Poll::Ready(Told::Over);
                }
            }
        }
    }
}

async fn receive(mut frames: Receiver<Arc<Frame>>) -> Received {
    let received = frames.recv().await;
    (received, frames)
}
