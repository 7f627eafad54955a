//! The sections of the configuration. What each key means stands in `config.default.toml`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

/// Where everything is kept.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:` or `postgres:` URL; may hold a password.
    pub url: String,
    /// Most connections at once.
    pub max_connections: u32,
    /// Whether `serve` migrates.
    pub migrate: bool,
}

/// Where locks, rates and cached answers are.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyValue {
    /// `redis:` or `rediss:` URL, may hold a password; none: the embedded store.
    #[serde(deserialize_with = "blank_is_none")]
    pub url: Option<String>,
    /// What every key begins with.
    pub namespace: String,
}

/// What stands between reading and processing.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `amqp:` or `amqps:` URL; may hold a password. None: a table of the database.
    #[serde(deserialize_with = "blank_is_none")]
    pub url: Option<String>,
    /// Beginning of all names in the broker.
    pub prefix: String,
    /// Partitions of the keys.
    pub partitions: u16,
    /// Most messages held at once.
    pub prefetch: u16,
}

/// The HTTP server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// URL under which the network reaches the gateway; none: only this machine does.
    #[serde(deserialize_with = "blank_is_none")]
    pub public_url: Option<Url>,
    /// Foreign web origins that may call; `*` stands for all.
    pub allowed_origins: Vec<String>,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Most open connections, sockets left out.
    pub max_connections: usize,
    /// See [`Http::header_timeout`].
    pub header_timeout_seconds: u64,
    /// See [`Http::write_timeout`].
    pub write_timeout_seconds: u64,
    /// See [`Http::shutdown_grace`].
    pub shutdown_grace_seconds: u64,
}

/// Limits of the GraphQL API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graphql {
    /// Deepest nesting of selections.
    pub max_depth: usize,
    /// Highest cost of an operation.
    pub max_cost: u64,
    /// Most aliases in a document.
    pub max_aliases: usize,
    /// Most fields at the root of an operation.
    pub max_root_fields: usize,
    /// Most lexical tokens in a document.
    pub max_tokens: usize,
    /// Most items of one page.
    pub max_page_size: u32,
    /// Whether the schema may be asked for.
    pub introspection: bool,
    /// Whether `/graphiql` is served.
    pub graphiql: bool,
    /// Most operations at once on a WebSocket.
    pub socket_operations: usize,
    /// Most open WebSockets.
    pub max_sockets: usize,
    /// Most places for running queries.
    pub max_operations: usize,
    /// See [`Graphql::operation_timeout`].
    pub operation_timeout_seconds: u64,
    /// Operations that are counted by their name.
    pub named_operations: Vec<String>,
}

/// Where records come from.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// `jetstream+wss://…` or `firehose+wss://…` URLs in order of preference; may hold passwords.
    pub endpoints: Vec<String>,
    /// See [`Streams::stall`].
    pub stall_seconds: u64,
    /// What a stream without a cursor begins with.
    pub start: Start,
    /// Relay that lists the repositories to read at the very first start; none: nothing is read.
    #[serde(deserialize_with = "blank_is_none")]
    pub backfill: Option<Url>,
}

/// What a stream without a cursor begins with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// What happens from now on.
    Live,
    /// All that the stream keeps.
    Oldest,
}

/// How the rest of the network is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The directory of did:plc identities.
    #[serde(deserialize_with = "text")]
    pub plc_url: Url,
    /// A copy of the directory; none: only the directory itself is asked.
    #[serde(deserialize_with = "blank_is_none")]
    pub plc_mirror: Option<Url>,
    /// The `AppView` that is asked for profiles; none: they are read at their PDSes.
    #[serde(deserialize_with = "blank_is_none")]
    pub appview_url: Option<Url>,
    /// The DNS server; none: the system's.
    #[serde(deserialize_with = "dns_server")]
    pub dns_server: Option<SocketAddr>,
    /// Whether private addresses, plain http and any port are allowed.
    pub allow_private: bool,
    /// See [`Network::timeout`].
    pub timeout_seconds: u64,
    /// Requests a second to one host; 0: no bound.
    pub requests_per_second: u32,
}

/// How long people stay signed in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// See [`Session::idle`].
    pub idle_days: u32,
    /// See [`Session::longest`].
    pub longest_days: u32,
    /// Addresses of apps that may be given a code.
    pub redirects: Vec<String>,
}

/// Who may do more than others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// DIDs of administrators, each behind the name of its tenant and `=`; without one of the first tenant.
    pub administrators: Vec<String>,
    /// DIDs of those who administer every tenant.
    pub operators: Vec<String>,
    /// Whom the tokens of other people's PDSes have to be meant for.
    pub audiences: Vec<String>,
}

/// How records are processed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Most records of one transaction.
    pub batch_size: usize,
    /// Largest record in bytes.
    pub max_record_bytes: usize,
    /// Most attempts before a record is put aside.
    pub max_attempts: u32,
    /// Most items of one service key in a minute.
    pub items_per_minute: u32,
    /// See [`Ingest::retention`].
    pub retention_days: u32,
    /// See [`Ingest::failure_retention`].
    pub failure_retention_days: u32,
}

/// How accounts are looked up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// See [`Identity::refresh`].
    pub refresh_hours: u32,
    /// Most accounts of one round.
    pub batch: u32,
}

/// How people sign in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// What people are told whom they let in.
    pub client_name: String,
    /// A JWK set with private keys, or the path of one.
    #[serde(deserialize_with = "blank_is_none")]
    pub keys: Option<String>,
    /// Foreign web origins that people may be sent back to.
    pub redirects: Vec<String>,
}

/// What secrets are sealed with.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Keys in base64url, the one that seals first; none: a file beside the SQLite database.
    pub keys: Vec<String>,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Levels, as `tracing_subscriber` reads them.
    pub level: String,
    /// How it is written.
    pub format: LogFormat,
}

/// Where traces go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Collector that speaks OTLP over HTTP; none: no traces.
    #[serde(deserialize_with = "blank_is_none")]
    pub otlp_endpoint: Option<Url>,
    /// One in how many traces that begin here is kept.
    pub sample_one_in: u64,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Database {
    /// The URL without its secrets, for messages.
    pub fn place(&self) -> String {
        let is_sqlite = self.url.starts_with("sqlite:");
        // A path need not be of the form that hosts have.
        is_sqlite
            .then(|| self.url.split('?').next())
            .flatten()
            .map_or_else(|| without_secrets(&self.url), str::to_owned)
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<PathBuf> {
        let path = self.url.strip_prefix("sqlite:")?.split('?').next()?;
        let path = path.strip_prefix("//").unwrap_or(path);
        (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
    }
}

impl Http {
    /// What the head of a request may take to arrive.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    /// How long a client may take nothing of what is written to it.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_seconds)
    }

    /// What running work gets to finish in when the process stops.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }
}

impl Graphql {
    /// What one query may take.
    pub fn operation_timeout(&self) -> Duration {
        Duration::from_secs(self.operation_timeout_seconds)
    }
}

impl Streams {
    /// Silence after which a stream is dead.
    pub fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }
}

impl Network {
    /// What one request to a foreign host may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl Session {
    /// How long a session lasts without being used.
    pub fn idle(&self) -> Duration {
        days(self.idle_days)
    }

    /// How long a session lasts at most.
    pub fn longest(&self) -> Duration {
        days(self.longest_days)
    }
}

impl Ingest {
    /// How long the change log is kept.
    pub fn retention(&self) -> Duration {
        days(self.retention_days)
    }

    /// How long parked messages are kept after they were resolved or discarded.
    pub fn failure_retention(&self) -> Duration {
        days(self.failure_retention_days)
    }
}

fn days(number: u32) -> Duration {
    Duration::from_secs(u64::from(number) * 24 * 60 * 60)
}

impl Identity {
    /// Age at which an identity is looked up again.
    pub fn refresh(&self) -> Duration {
        Duration::from_secs(u64::from(self.refresh_hours) * 60 * 60)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &without_secrets(&self.url))
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .finish()
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("url", &self.url.as_deref().map(without_secrets))
            .field("namespace", &self.namespace)
            .finish()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("url", &self.url.as_deref().map(without_secrets))
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("client_name", &self.client_name)
            .field("keys", &self.keys.as_ref().map(|_| "(hidden)"))
            .field("redirects", &self.redirects)
            .finish()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("keys", &self.keys.len()).finish()
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("endpoints", &self.endpoints.iter().map(|url| without_secrets(url)).collect::<Vec<_>>())
            .field("stall_seconds", &self.stall_seconds)
            .field("start", &self.start)
            .field("backfill", &self.backfill.as_ref().map(Url::as_str))
            .finish()
    }
}

/// A URL without its password, query and fragment: PostgreSQL takes passwords in the query as well.
fn without_secrets(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "(hidden)".to_owned() };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "(hidden)".to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn blank_is_none<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

fn dns_server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    const DNS_PORT: u16 = 53;
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => text
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
            .or_else(|_| text.parse())
            .map(Some)
            .map_err(|_| D::Error::custom("expected an IP address, with or without a port")),
    }
}
