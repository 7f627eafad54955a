//! Names to addresses that may be connected to, and TXT records.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{NoAddress, OutboundSettings, rules::Rules};
use crate::error::{Error, Result};

/// Time for one question to one server.
const MAX_QUESTION_TIME: Duration = Duration::from_secs(3);

/// A resolver that answers with admissible addresses only. Cheap to clone.
#[derive(Clone)]
pub(super) struct CheckedDns {
    resolver: TokioResolver,
    rules: Rules,
}

impl CheckedDns {
    pub(super) fn new(settings: &OutboundSettings, rules: Rules) -> Result<Self> {
        let mut builder = match settings.dns_server {
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(|error| unusable(&error))?,
        };
        let options = builder.options_mut();
        options.timeout = settings.timeout.min(MAX_QUESTION_TIME);
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 4_096;
        // Hosts move, and so does what a name is allowed to be: nothing is believed for long.
        options.positive_max_ttl = Some(Duration::from_mins(5));
        options.negative_max_ttl = Some(Duration::from_mins(1));
        if settings.dns_server.is_some() {
            options.use_hosts_file = ResolveHosts::Never;
        }
        Ok(Self { resolver: builder.build().map_err(|error| unusable(&error))?, rules })
    }

    pub(super) async fn txt(&self, name: &str) -> Result<Vec<String>> {
        let name = fully_qualified(name);
        if name.len() > 254 {
            return Ok(Vec::new()); // longer than a name can be
        }
        // What is asked for here has just changed more often than not.
        self.resolver.clear_lookup_cache(&name, RecordType::TXT);
        let found = existing(self.resolver.txt_lookup(&name).await).map_err(|error| Error::upstream("dns", error))?;
        let text = |data: &RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        Ok(found.iter().flat_map(Lookup::answers).filter_map(|record| text(&record.data)).collect())
    }

    /// The admissible addresses of a host. [`NoAddress`] only when every question was answered.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let name = fully_qualified(host);
        if self.rules.relaxed && (host == "localhost" || host.ends_with(".localhost")) {
            return Ok([IpAddr::from(Ipv4Addr::LOCALHOST)].into_iter().filter(|ip| (self.rules.admits)(*ip)).collect());
        }
        // Asked one by one, because the resolver's own look-up of both hides the failure of one behind the other.
        let answers = tokio::join!(self.resolver.ipv4_lookup(&name), self.resolver.ipv6_lookup(&name));
        let (mut addresses, mut failure) = (Vec::new(), None);
        for answer in [answers.0, answers.1] {
            match existing(answer) {
                Ok(found) => addresses.extend(
                    found
                        .iter()
                        .flat_map(Lookup::answers)
                        .filter_map(|record| record.data.ip_addr())
                        .filter(|ip| (self.rules.admits)(*ip)),
                ),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            _ if !addresses.is_empty() => Ok(addresses),
            Some(error) => Err(error.into()),
            None => Err(NoAddress.into()),
        }
    }
}

impl Resolve for CheckedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let found = dns.addresses(name.as_str()).await?;
            // Port 0 stands for the port of the URL.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// A name that no search list is applied to.
fn fully_qualified(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// Tells "there is no such thing" from "nobody could say".
fn existing(answer: Result<Lookup, NetError>) -> Result<Option<Lookup>, NetError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_no_records_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn unusable(error: &NetError) -> Error {
    Error::invalid("dns_server", "DNS_UNUSABLE", format!("no DNS server can be asked: {error}"))
}
