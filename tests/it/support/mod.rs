//! What several tests need.

pub(crate) mod app;
pub(crate) mod changes;
pub(crate) mod database;
pub(crate) mod devnet;
pub(crate) mod gateway;
pub(crate) mod graphql;
pub(crate) mod process;
pub(crate) mod records;
