//! Answers to events: finding them, and the rules of who may see which.
//!
//! An answer is visible while the accounts of its author and of the event's organiser are active. Lists show answers to
//! listed events; whoever knows a key, or the event, also sees those to an unlisted one.

mod query;
pub mod write;

pub(crate) use self::query::order;
pub use self::query::{Filter, Key, MAX_VALUES, by_ids, count, find, list, of_events};
