//! The operations of a socket that are members of shared runs.
//!
//! Their socket's task asks each of them whenever it wakes. A set that knows who woke it would touch several times the memory
//! for each of thousands of sockets, most of which have one subscription; and they are bounded.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use async_graphql::Executor;

use crate::api::graphql::transport::{
    frame::Frame,
    share::{Follower, Told},
};

/// Members of shared runs.
pub(super) struct Members<E> {
    places: Vec<Place<E>>,
    /// Who is asked first, in turn, so that none keeps the others waiting.
    next: usize,
}

struct Place<E> {
    number: u64,
    id: Arc<str>,
    follower: Box<Follower<E>>,
}

/// What a shared run tells one of its members.
pub(super) struct Live<E> {
    pub(super) number: u64,
    pub(super) id: Arc<str>,
    pub(super) what: Shared<E>,
}

/// The same.
pub(super) enum Shared<E> {
    /// A result, and whether it is the first.
    Frame(Arc<Frame>, bool),
    /// It fell behind, and has to catch up in a task of its own. It is no member any more.
    Behind(Box<Follower<E>>),
    /// The end. It is no member any more.
    Over,
}

impl<E: Executor> Members<E> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), next: 0 }
    }

    /// Takes one in. The number tells operations apart that used the same id one after the other.
    pub(super) fn add(&mut self, number: u64, id: Arc<str>, follower: Box<Follower<E>>) {
        self.places.push(Place { number, id, follower });
    }

    /// Lets one go, if it is there.
    pub(super) fn remove(&mut self, number: u64) {
        self.places.retain(|place| place.number != number);
    }

    /// Lets all go.
    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// What the next of them is told. It waits forever where there is none.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Live<E>> {
        for _ in 0..self.places.len() {
            if self.next >= self.places.len() {
                self.next = 0;
            }
            let at = self.next;
            let Some(place) = self.places.get_mut(at) else { break };
            let told = loop {
                match place.follower.poll_member(context) {
                    Poll::Ready(Told::CaughtUp) => {}
                    told => break told,
                }
            };
            let Poll::Ready(told) = told else {
                self.next += 1;
                continue;
            };
            let (number, id) = (place.number, Arc::clone(&place.id));
            let what = match told {
                Told::Frame(frame, is_first) => {
                    self.next += 1;
                    Shared::Frame(frame, is_first)
                }
                Told::Behind => Shared::Behind(self.places.swap_remove(at).follower),
                Told::Over | Told::CaughtUp => {
                    self.places.swap_remove(at);
                    Shared::Over
                }
            };
            return Poll::Ready(Live { number, id, what });
        }
        Poll::Pending
    }
}
