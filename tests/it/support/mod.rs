//! What several tests need.

pub(crate) mod changes;
pub(crate) mod database;
