//! Every integration test, in one binary.

mod change_feed;
mod house;
mod support;
