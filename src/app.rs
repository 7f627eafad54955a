//! What every part of the program is handed: the open connections and the settings.

use std::sync::Arc;

use crate::{
    config::Config,
    domain::{
        change::{Feed, FeedSettings},
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::{
        atproto::{
            identity::{Directory, DirectorySettings},
            stream::Endpoint,
        },
        clock::Clock,
        db::{Db, DbSettings},
        http::{Outbound, OutboundSettings},
        kv::{Kv, KvSettings, Topic},
    },
};

/// The running program. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// Database.
    pub db: Db,
    /// What is shared for a while: locks, rates, cached answers, the doorbell.
    pub kv: Kv,
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

impl App {
    /// Connects to everything and brings the database's schema up to date, unless the configuration says not to.
    pub async fn open(config: Config, clock: Clock) -> Result<Self> {
        // Before anything is opened: what only the streams understand of the configuration.
        for endpoint in &config.streams.endpoints {
            endpoint.parse::<Endpoint>()?;
        }
        let db = connect(&config).await?;
        if config.database.migrate {
            db.migrate().await?;
        }
        let settings = KvSettings { url: config.kv.url.clone(), namespace: config.kv.namespace.clone() };
        let kv = Kv::open(&settings, db.clone(), clock.clone()).await?;
        let tenant = Tenant::default(db.read()).await?;
        let outbound = Outbound::new(OutboundSettings {
            allow_private: config.network.allow_private,
            dns_server: config.network.dns_server,
            timeout: config.network.timeout(),
            ..OutboundSettings::default()
        })?;
        let plc_url = config.network.plc_url.clone();
        Ok(Self {
            directory: Directory::new(outbound.clone(), DirectorySettings { plc_url }),
            changes: Feed::new(db.clone(), tenant, kv.bell(Topic::Changes), FeedSettings::default()),
            config: Arc::new(config),
            db,
            kv,
            clock,
            tenant,
            outbound,
        })
    }
}

/// Connects to the configured database; its schema is left alone.
pub async fn connect(config: &Config) -> Result<Db> {
    let settings = DbSettings { url: config.database.url.clone(), max_connections: config.database.max_connections };
    Db::connect(&settings).await.map_err(|error| match error {
        Error::Unavailable { service, source } => {
            Error::Unavailable { service, source: source.context(format!("connect to {}", config.database.place())) }
        }
        other => other,
    })
}
