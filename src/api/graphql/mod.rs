//! (being written)
pub(crate) mod guard;
pub(crate) mod transport;
