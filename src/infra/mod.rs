//! The outside world: databases, key-value stores, queues, hosts of the network. Knows nothing of events.

pub mod atproto;
pub mod clock;
pub mod db;
pub mod http;
pub mod kv;
pub mod queue;
pub mod resilience;
pub mod seal;
