//! What the types of the sections cannot say: forms and ranges.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use url::Url;

use super::Config;

const GIGABYTE: u64 = 1 << 30;

impl Config {
    /// What the types cannot say. Each message stands alone and holds no value that may be secret.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self {
            database,
            kv,
            queue,
            http,
            graphql,
            streams,
            network,
            ingest,
            identity,
            session,
            access,
            oauth,
            secrets: _,
            log,
            telemetry,
        } = self;

        let known = ["sqlite:", "postgres://", "postgresql://"];
        if !known.iter().any(|scheme| database.url.starts_with(scheme)) {
            return Err("expected a URL that begins with sqlite:// or postgres://".to_owned());
        }
        if kv.url.as_ref().is_some_and(|url| !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme))) {
            return Err("expected a URL that begins with redis:// or rediss://".to_owned());
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if kv.namespace.is_empty() || kv.namespace.len() > 60 || !kv.namespace.chars().all(fits) {
            return Err("expected 1 to 60 of a to z, 0 to 9 and \"-\"".to_owned());
        }
        let is_amqp =
            |url: &String| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "amqp" | "amqps") && url.has_host());
        if !queue.url.as_ref().is_none_or(is_amqp) {
            return Err("expected a URL that begins with amqp:// or amqps://".to_owned());
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if queue.prefix.is_empty() || queue.prefix.len() > 100 || !queue.prefix.chars().all(fits) {
            return Err("expected 1 to 100 letters, digits, \".\", \"-\" and \"_\"".to_owned());
        }
        for origin in &http.allowed_origins {
            let is_origin = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if origin != "*" && !is_origin {
                return Err("expected origins such as \"https://openmeet.net\", without a path, or \"*\"".to_owned());
            }
        }
        for origin in &oauth.redirects {
            if Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin) {
                continue;
            }
            return Err("expected origins such as \"https://openmeet.net\", without a path".to_owned());
        }
        if oauth.client_name.trim().is_empty() || oauth.client_name.chars().count() > 100 {
            return Err("expected a name of 1 to 100 characters".to_owned());
        }
        for redirect in &session.redirects {
            let is_address = Url::parse(redirect).is_ok_and(|url| {
                // An app's own scheme has the form of a domain name of it; what scripts or files are no one is sent to.
                let is_own = url.scheme().contains('.') || url.scheme() == "https";
                let is_local = url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "localhost"));
                (is_own || is_local) && url.fragment().is_none() && url.username().is_empty()
            });
            if !is_address {
                return Err("expected addresses such as \"net.openmeet.app:/signed-in\", or https ones".to_owned());
            }
        }
        let is_did =
            |text: &str| text.len() <= 300 && ["did:plc:", "did:web:"].iter().any(|kind| text.starts_with(kind));
        let names = access.administrators.iter().map(|name| name.split_once('=').map_or(name.as_str(), |(_, did)| did));
        if !names.chain(access.operators.iter().chain(&access.audiences).map(String::as_str)).all(is_did) {
            return Err("expected DIDs, those of administrators with TENANT= before them where one is meant".to_owned());
        }
        let asked = [&network.plc_url].into_iter().chain(&network.plc_mirror).chain(&network.appview_url);
        for url in streams.backfill.iter().chain(asked).chain(&telemetry.otlp_endpoint) {
            let is_plain = matches!(url.scheme(), "http" | "https") && url.has_host();
            if !is_plain || !url.username().is_empty() || url.password().is_some() {
                return Err("expected an http or https URL without a user".to_owned());
            }
        }
        for endpoint in &streams.endpoints {
            let socket = endpoint.strip_prefix("jetstream+").or_else(|| endpoint.strip_prefix("firehose+"));
            let url = socket.and_then(|socket| Url::parse(socket).ok());
            if !url.is_some_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host()) {
                return Err("expected URLs such as jetstream+wss://HOST/subscribe or firehose+wss://HOST".to_owned());
            }
        }
        let is_name = |name: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !name.is_empty() && name.len() <= 100 && name.chars().all(fits)
        };
        if graphql.named_operations.len() > 200 || !graphql.named_operations.iter().all(is_name) {
            return Err("expected at most 200 names of GraphQL operations".to_owned());
        }
        // The parser of filters cuts words in the middle of a letter that is not ASCII.
        if !log.level.is_ascii() || !levels_are_known(&log.level) || EnvFilter::try_new(&log.level).is_err() {
            return Err(
                "expected a level (error, warn, info, debug, trace, off) or TARGET=LEVEL, or several".to_owned()
            );
        }

        // upper bounds keep sums and products far from overflow and catch a slip of the finger
        let sizes = [
            (u64::from(database.max_connections), 1, 1_000),
            (queue.partitions.into(), 1, 256),
            (queue.prefetch.into(), 1, 10_000),
            (http.max_body_bytes as u64, 1_024, GIGABYTE),
            (http.max_connections as u64, 1, 1_000_000),
            (http.header_timeout_seconds, 1, 3_600),
            (http.write_timeout_seconds, 1, 3_600),
            (http.shutdown_grace_seconds, 0, 3_600),
            (graphql.max_depth as u64, 1, 100),
            (graphql.max_cost, 1, GIGABYTE),
            (graphql.max_aliases as u64, 0, 100_000),
            (graphql.max_root_fields as u64, 1, 100_000),
            (graphql.max_tokens as u64, 1, 1_000_000),
            (u64::from(graphql.max_page_size), 1, 10_000),
            (graphql.socket_operations as u64, 1, 1_000),
            (graphql.max_sockets as u64, 0, 1_000_000),
            (graphql.max_operations as u64, 2, 100_000),
            (graphql.operation_timeout_seconds, 1, 3_600),
            (streams.stall_seconds, 1, 86_400),
            (network.timeout_seconds, 1, 3_600),
            (u64::from(session.idle_days), 1, 3_650),
            (u64::from(session.longest_days), 1, 3_650),
            (ingest.batch_size as u64, 1, 10_000),
            (ingest.max_record_bytes as u64, 1_024, 64 << 20),
            (u64::from(ingest.max_attempts), 1, 100),
            (u64::from(ingest.items_per_minute), 1_000, GIGABYTE),
            (u64::from(ingest.retention_days), 1, 36_500),
            (u64::from(ingest.failure_retention_days), 1, 36_500),
            (u64::from(identity.refresh_hours), 1, 87_600),
            (u64::from(identity.batch), 1, 10_000),
            (telemetry.sample_one_in, 1, 1_000_000_000),
        ];
        match sizes.into_iter().find(|(size, least, most)| size < least || size > most) {
            Some((_, least, most)) => Err(format!("expected a number from {least} to {most}")),
            None => Ok(()),
        }
    }
}

/// A bare word that is no level would be taken for a target and silently turn on everything of it.
fn levels_are_known(directives: &str) -> bool {
    directives.split(',').map(str::trim).all(|directive| {
        directive.rsplit_once('=').map_or(directive, |(_, level)| level).parse::<LevelFilter>().is_ok()
            && !directive.is_empty()
    })
}
