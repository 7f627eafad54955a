//! The rules, one folder or file for each noun.

pub mod account;
pub mod actor;
pub mod change;
mod cursor;
pub mod event;
pub mod ingest;
pub mod integration;
pub mod key;
pub mod page;
pub mod profile;
pub mod range;
pub mod record;
pub mod rsvp;
pub mod source;
pub mod tenant;
