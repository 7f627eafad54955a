//! Every integration test, in one binary.

mod change_api;
mod change_feed;
mod change_log;
mod devnet;
mod house;
mod oracle;
mod reading;
mod schema;
mod support;
