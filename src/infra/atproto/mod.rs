//! The AT Protocol, seen from below: streams of records, identities, repositories.

pub mod appview;
pub mod car;
pub mod firehose;
pub mod identity;
pub mod jetstream;
pub mod pds;
pub mod relay;
pub mod stream;
pub mod syntax;
