//! The outside world: databases, queues, hosts of the network. Knows nothing of events.

pub mod atproto;
pub mod clock;
pub mod db;
pub mod http;
pub mod queue;
