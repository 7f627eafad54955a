//! Stage 6: which tenant gets it. Records of the network go to the default tenant.

use super::s5_dedupe::Deduped;
use crate::domain::tenant::Tenant;

/// A batch with its destination.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) tenant: Tenant,
    pub(super) messages: Vec<Deduped>,
}

pub(super) fn route(messages: Vec<Deduped>, tenant: Tenant) -> Routed {
    Routed { tenant, messages }
}
