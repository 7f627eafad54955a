//! What every part of the program is handed: the open connections and the settings.

use std::sync::Arc;

use crate::{
    config::Config,
    domain::{change::Feed, tenant::Tenant},
    infra::{atproto::identity::Directory, clock::Clock, db::Db, http::Outbound},
};

/// The running program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// Database.
    pub db: Db,
    /// Time.
    pub clock: Clock,
    /// The tenant that the network's records are routed to.
    pub tenant: Tenant,
    /// The client for hosts that somebody else names.
    pub outbound: Outbound,
    /// Who is behind a DID.
    pub directory: Directory,
    /// Committed changes of events, live.
    pub changes: Feed,
}
