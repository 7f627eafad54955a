//! The change log and the live feed: what happened to events, in one order that every reader sees alike.
//!
//! A change is written in the transaction that makes it. The writer holds a lock from right before it takes the change's
//! id until the commit, so ids become visible in their own order: whoever has seen id *n* will never find a smaller one
//! later. The [`Cursor`] is therefore the id. Ids have holes (rollbacks, other tenants); nothing counts on their absence.
//!
//! [`page`] reads the log, [`cut`] forgets its old end, and [`Feed`] follows its new end: one tail for each process, which
//! fans out in memory to any number of subscribers. What is a change is decided where the event is written; [`append`]
//! only keeps the order.

mod cursor;
mod feed;
mod filter;
mod log;
mod write;

use std::sync::Arc;

use entities::{change, event};

pub use self::{
    cursor::Cursor,
    feed::{Feed, FeedSettings},
    filter::Filter,
    log::{Page, cut, head, page, with_events},
    write::{Entry, LOCK, append},
};

/// One change with its event: what subscribers are handed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The row of the log.
    pub row: change::Model,
    /// The event as it was when the change was read; none when it is gone or not listed.
    pub event: Option<Arc<event::Model>>,
}

impl Change {
    /// Where to resume after this change.
    pub fn cursor(&self) -> Cursor {
        Cursor::of(&self.row)
    }
}
