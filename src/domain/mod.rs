//! The rules, one folder or file for each noun.

pub mod account;
pub mod actor;
pub mod audit;
pub mod change;
mod cursor;
pub mod event;
pub mod ingest;
pub mod integration;
pub mod key;
pub mod login;
pub mod page;
pub mod person;
pub mod range;
pub mod record;
pub mod rsvp;
mod secret;
pub mod session;
pub mod source;
pub mod tenant;
pub mod vouching;
