//! What every part of the program is handed: the open connections and the settings.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::{
    config::Config,
    domain::{
        change::{Feed, FeedSettings},
        ingest::Foresight,
        login,
        profile::Profiles,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::{
        atproto::{
            appview::AppView,
            identity::{Directory, DirectorySettings},
            oauth::{self, ClientSettings, OAuth},
            stream::Endpoint,
        },
        clock::Clock,
        db::{Db, DbSettings},
        http::{Outbound, OutboundSettings, Pace},
        kv::{self, Kv, KvSettings},
        queue::{Broker, BrokerSettings, Queue, Queues, Topic},
        seal::{Seal, SealSettings},
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
    /// The tenant that is asked for: where nobody names one, the [network's](Self::network).
    pub tenant: Tenant,
    /// The tenant that records of the network are routed to, whoever asks, and whose administrators see what was put aside.
    pub network: Tenant,
    /// The client for hosts that somebody else names.
    pub outbound: Outbound,
    /// Who is behind a DID.
    pub directory: Directory,
    /// Logins and sessions at people's PDSes.
    pub oauth: OAuth,
    /// Public profiles, and which of them are being fetched.
    pub profiles: Profiles,
    /// Committed changes of events, live.
    pub changes: Feed,
    /// Whether records are judged before they are written.
    pub foresight: Arc<Foresight>,
    queues: Arc<OnceCell<Queues>>,
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
        } else {
            db.check_tables().await?;
        }
        let settings = KvSettings { url: config.kv.url.clone(), namespace: config.kv.namespace.clone() };
        let kv = Kv::open(&settings, db.clone(), clock.clone()).await?;
        let tenant = Tenant::default(db.read()).await?;
        let outbound = Outbound::new(OutboundSettings {
            allow_private: config.network.allow_private,
            dns_server: config.network.dns_server,
            timeout: config.network.timeout(),
            pace: Pace::per_second(config.network.requests_per_second).filter(|_| !config.network.allow_private),
            ..OutboundSettings::default()
        })?;
        let (plc_url, plc_mirror) = (config.network.plc_url.clone(), config.network.plc_mirror.clone());
        let directory = Directory::new(outbound.clone(), DirectorySettings { plc_url, plc_mirror });
        let seal = Seal::new(SealSettings {
            keys: config.secrets.keys.clone(),
            file: config.database.file().map(|file| file.with_added_extension("key")),
        })?;
        let client = ClientSettings {
            public_url: config.http.public_url.clone(),
            keys: config.oauth.keys.clone(),
            name: config.oauth.client_name.clone(),
            scope: login::EVERY_SCOPE.to_owned(),
        };
        let (outside, who, kept, time) = (outbound.clone(), directory.clone(), kv.clone(), clock.clone());
        let parts = oauth::Parts { outbound: outside, directory: who, kv: kept, seal, clock: time };
        let appview = config.network.appview_url.clone().map(|url| AppView::new(outbound.clone(), url));
        Ok(Self {
            profiles: Profiles::new(appview),
            oauth: OAuth::new(&client, parts)?,
            directory,
            changes: Feed::new(db.clone(), tenant, kv.bell(kv::Topic::Changes), FeedSettings::default()),
            config: Arc::new(config),
            db,
            kv,
            clock,
            tenant,
            network: tenant,
            outbound,
            foresight: Arc::default(),
            queues: Arc::default(),
        })
    }

    /// The queues: in the broker where the configuration names one, else in the database. The broker is connected to when
    /// it is needed first, and may be away until then.
    pub async fn queues(&self) -> Result<&Queues> {
        self.queues.get_or_try_init(async || self.open_queues()).await
    }

    fn open_queues(&self) -> Result<Queues> {
        let queue = &self.config.queue;
        let broker = match &queue.url {
            None => None,
            Some(url) => {
                let (url, prefix) = (url.clone(), queue.prefix.clone());
                let (partitions, prefetch) = (queue.partitions, queue.prefetch);
                let settings = BrokerSettings { url, prefix, partitions, prefetch, ..BrokerSettings::default() };
                Some(Broker::open(&settings)?)
            }
        };
        let open = |topic| match &broker {
            None => Queue::embedded(self.db.clone(), self.clock.clone(), topic),
            Some(broker) => Queue::rabbit(broker, self.clock.clone(), topic),
        };
        Ok(Queues { records: open(Topic::Records), resyncs: open(Topic::Resyncs), broker })
    }
}

impl App {
    /// The same program, as those see it who ask for this tenant.
    #[must_use]
    pub fn of(&self, tenant: Tenant) -> Self {
        Self { tenant, changes: self.changes.of(tenant), ..self.clone() }
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
