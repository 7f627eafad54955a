//! Events: finding them, and the rules of who may see which.
//!
//! An event is *listed* when it is public, no draft, and its organiser's account is active. It is *reachable* by whoever
//! knows one of its keys also when it is unlisted. Nothing else leaves the gateway.

mod filter;
mod geo;
pub mod outline;
mod query;
pub(crate) mod slug;
mod words;
pub mod write;

pub(crate) use self::query::order;
pub use self::{
    filter::{Filter, MAX_ACTORS},
    geo::{EARTH_RADIUS_METERS, GeoRadius, MAX_RADIUS_METERS, sphere},
    query::{Key, Sort, SortField, by_ids, count, count_of_organizers, find, list, listed, of_organizers, reachable},
    words::{MAX_WORDS, fold_search, search_text, search_words},
};
