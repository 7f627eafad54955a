//! Where one run of a resumable subscription begins and ends, and how far it has come.
//!
//! A subscription that can be [shared](super::share) runs in two ways besides the one that was asked for: from now on, for
//! all its members together, and from a position up to now, for one member that is behind. The run's source is told
//! which ([`Course::plan`]), and tells where it is ([`Course::pace`]).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::Turn;

/// The way of one run; in its data, where the run is not simply what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    way: Way,
    progress: Arc<Mutex<Progress>>,
    begun: CancellationToken,
}

/// From where to where a source has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Begin after this position; none: with what comes.
    pub(crate) after: Option<i64>,
    /// End with what is there now, instead of never.
    pub(crate) ends: bool,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    FromNow,
    UpToNow(Option<i64>),
}

#[derive(Debug, Default)]
struct Progress {
    position: Option<i64>,
    failed: bool,
    ended: bool,
}

impl Course {
    /// From now on, whatever position was asked for.
    pub(super) fn from_now() -> Self {
        Self::new(Way::FromNow)
    }

    /// Up to now: from the position that was asked for, or from this one instead.
    pub(super) fn up_to_now(from: Option<i64>) -> Self {
        Self::new(Way::UpToNow(from))
    }

    fn new(way: Way) -> Self {
        Self { way, progress: Arc::default(), begun: CancellationToken::new() }
    }

    /// What a source has to do for whoever asked for what comes after a position, or for what comes.
    pub(crate) fn plan(course: Option<&Self>, asked: Option<i64>) -> Plan {
        match course.map(|course| course.way) {
            None => Plan { after: asked, ends: false },
            Some(Way::FromNow) => Plan { after: None, ends: false },
            Some(Way::UpToNow(from)) => {
                let after = from.or(asked);
                Plan { after, ends: after.is_some() }
            }
        }
    }

    /// The items of a source that follows the plan, each of which waits for its [turn](Turn::pace). Positions grow.
    pub(crate) fn pace<S, T, E, F>(
        course: Option<&Self>,
        turn: Option<&Turn>,
        plan: Plan,
        source: S,
        position: F,
    ) -> impl Stream<Item = Result<T, E>> + use<S, T, E, F>
    where
        S: Stream<Item = Result<T, E>>,
        F: Fn(&T) -> i64,
    {
        let course = course.cloned();
        if let Some(course) = &course {
            course.progress().position = plan.after;
            course.begun.cancel();
        }
        let end = course.clone();
        let items = source.inspect(move |item| {
            let Some(course) = &course else { return };
            match item {
                Ok(item) => course.progress().position = Some(position(item)),
                Err(_) => course.progress().failed = true,
            }
        });
        let end = stream::poll_fn(move |_| {
            if let Some(course) = &end {
                course.progress().ended = true;
            }
            Poll::Ready(None)
        });
        Turn::pace(turn, items.chain(end))
    }

    /// Cancelled when the run has fixed where it begins, or will never do so.
    pub(super) const fn begun(&self) -> &CancellationToken {
        &self.begun
    }

    /// Everything up to here was handed over.
    pub(super) fn position(&self) -> Option<i64> {
        self.progress().position
    }

    /// Whether the run has ended because there was no more, and not by a failure.
    pub(super) fn is_complete(&self) -> bool {
        let progress = self.progress();
        progress.ended && !progress.failed
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
