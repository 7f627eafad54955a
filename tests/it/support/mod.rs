//! What several tests need.

pub(crate) mod app;
pub(crate) mod appview;
pub(crate) mod blueprint;
pub(crate) mod changes;
pub(crate) mod database;
pub(crate) mod devnet;
pub(crate) mod feed;
pub(crate) mod gateway;
pub(crate) mod graphql;
pub(crate) mod jetstream;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod records;
pub(crate) mod wait;
