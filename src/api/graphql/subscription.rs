//! The root of what stays open.

use async_graphql::MergedSubscription;

use super::{admin::FailureSubscription, change::ChangeSubscription};

/// Streams over WebSocket (graphql-transport-ws) and server-sent events (graphql-sse). Delivery is at least once and in
/// cursor order; dedupe by `cursor`.
#[derive(Debug, Default, MergedSubscription)]
pub struct Subscription(ChangeSubscription, FailureSubscription);
