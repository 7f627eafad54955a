//! Every integration test, in one binary.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod accounts;
mod admin;
mod beside;
mod change_api;
mod change_feed;
mod change_log;
mod client_examples;
mod crash;
mod deploy;
mod devnet;
mod doors;
mod fanout;
mod faults;
mod hostile;
mod house;
mod impartial;
mod integration;
mod keys;
mod kv;
mod ladder;
mod leadership;
mod limits;
mod login;
mod metrics;
mod migrations;
mod operating;
mod oracle;
mod outages;
mod plans;
mod profiles;
mod publishing;
mod queue;
mod reading;
mod refusals;
mod rows;
mod schema;
mod shutdown;
mod support;
mod traces;
