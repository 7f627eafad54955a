//! The AT Protocol, seen from below: streams of records, identities, repositories.

pub mod car;
pub mod firehose;
pub mod identity;
pub mod jetstream;
pub mod oauth;
pub mod pds;
pub mod relay;
pub mod stream;
pub mod syntax;
pub mod vouched;
