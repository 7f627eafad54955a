//! Every integration test, in one binary.

mod change_feed;
mod change_log;
mod house;
mod support;
