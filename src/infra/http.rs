//! The one hardened HTTP client: for the PLC directory and for every host that somebody else named (`did:web`,
//! handles, PDSes).
//!
//! Invariant: unless private networks are allowed, no connection is opened to anything but port 443 of a public
//! address, whatever a URL, a redirect or a DNS answer says. The address that was checked is the address that is
//! connected to, because the check sits inside the resolver of the client; there is no second look-up to be lied to.
//!
//! A host that fails again and again is left alone for a while, and so is one that asks for it ([`rest_of`] tells callers how
//! long): requests then fail at once. Each host is asked by a few at a time, and at a [`Pace`]; who comes too early waits.
//!
//! It deliberately does not retry (queues do), does not follow the proxies of the environment (they would resolve names
//! themselves), does not decompress, and does not keep cookies.

mod dns;
mod exchange;
#[cfg(test)]
pub(crate) mod fake;
mod hosts;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument as _, field::Empty, info_span};
use url::Url;

pub use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use self::{
    dns::CheckedDns,
    exchange::{pause, redirect},
    hosts::{Host, Hosts, PER_HOST},
    rules::Rules,
};
pub use self::{
    exchange::{Answer, Request},
    hosts::Pace,
};
use crate::{
    error::{Error, Result},
    infra::resilience::{Pass, Resting},
};

const AGENT: &str = concat!("openmeet-gateway/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 3;
const MAX_CONNECT_TIME: Duration = Duration::from_secs(5);

/// What [`Outbound`] may do.
#[derive(Clone, Copy, Debug)]
pub struct OutboundSettings {
    /// For local networks only: plain `http`, any port, addresses in URLs and private addresses are allowed, and
    /// `localhost` is 127.0.0.1.
    pub allow_private: bool,
    /// The DNS server to ask over UDP and TCP; `None` asks those of the system.
    pub dns_server: Option<SocketAddr>,
    /// Time for one request, from connecting to the last byte. Redirects start anew.
    pub timeout: Duration,
    /// Longest body that is read; a longer one is an error.
    pub max_body_bytes: usize,
    /// How fast one host is asked by this client; `None` as fast as it answers.
    pub pace: Option<Pace>,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            allow_private: false,
            dns_server: None,
            timeout: Duration::from_secs(10),
            max_body_bytes: 8 * 1024 * 1024,
            pace: None,
        }
    }
}

/// The client. Cheap to clone; clones share connections, limits and the DNS cache.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    dns: CheckedDns,
    rules: Rules,
    hosts: Hosts,
    timeout: Duration,
    max_body_bytes: usize,
}

/// The name of a host has no address that may be connected to: it does not exist, or is private.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address that may be connected to")]
struct NoAddress;

/// The body is longer than the limit.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes")]
struct TooLarge(usize);

impl Outbound {
    /// Builds the client and makes ring the cryptography of the process if none was chosen yet.
    ///
    /// Fails with `Invalid` when the DNS settings of the system cannot be read and no server is named.
    pub fn new(settings: OutboundSettings) -> Result<Self> {
        let rules = Rules::new(settings.allow_private);
        Self::with_rules(&settings, rules)
    }

    fn with_rules(settings: &OutboundSettings, rules: Rules) -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let dns = CheckedDns::new(settings, rules)?;
        let builder = || {
            reqwest::Client::builder()
                .user_agent(AGENT)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(settings.timeout.min(MAX_CONNECT_TIME))
                .timeout(settings.timeout)
                .pool_max_idle_per_host(PER_HOST)
                .pool_idle_timeout(Duration::from_secs(30))
                .dns_resolver(dns.clone())
        };
        let client = builder().build().or_else(|error| {
            // A machine without root certificates can still read a local network; https fails there, request by request.
            tracing::warn!(%error, "no root certificates found: no https host can be read; install ca-certificates");
            builder().tls_certs_only([]).build().map_err(Error::bug)
        })?;
        Ok(Self(Arc::new(Inner {
            client,
            dns,
            rules,
            hosts: Hosts::new(settings.pace),
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })))
    }

    /// Reads a URL, following at most three redirects: a [`send`](Self::send) of [`Request::get`].
    pub async fn get(&self, service: &'static str, url: &Url) -> Result<Answer> {
        self.send(service, Request::get(url.clone())).await
    }

    /// Asks a host. Each redirect that is followed is checked like the first URL.
    ///
    /// A status other than 2xx is an answer, except 429: that is `RateLimited` with the time the host asks for. Redirects that
    /// are not followed, and 429, come without their body. `Invalid` with the code `URL_REFUSED` when the URL may not be asked
    /// at all; `Upstream` for everything that happens on the way, of which some may have happened after the host has heard
    /// the request. While the host is left alone, the same errors come at once. `service` is the kind of host, from a
    /// closed set: it labels errors and metrics.
    pub async fn send(&self, service: &'static str, request: Request) -> Result<Answer> {
        let begun = Instant::now();
        let span = info_span!("host.ask", service, host = request.url.host_str(), outcome = Empty);
        let result = self.follow(service, request).instrument(span.clone()).await;
        let outcome = match &result {
            Ok(answer) if answer.is_success() => "success",
            Ok(answer) if answer.status < 500 => "client_error",
            Ok(_) => "server_error",
            Err(error) if is_resting(error) => "resting",
            Err(Error::RateLimited { .. }) => "rate_limited",
            Err(Error::Invalid { .. }) => "refused",
            Err(_) => "failure",
        };
        span.record("outcome", outcome);
        metrics::counter!("gateway_outbound_requests_total", "service" => service, "outcome" => outcome).increment(1);
        metrics::histogram!("gateway_outbound_duration_seconds", "service" => service).record(begun.elapsed());
        result
    }

    /// The TXT records of a name, asked anew (no cache of ours), the strings of each joined.
    ///
    /// Empty when the name or its records do not exist; `Upstream` with service `dns` when nobody could say.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>> {
        self.0.dns.txt(name).await
    }

    /// Whether a URL obeys the rules that need no look-up: scheme, port, no credentials, no forbidden host.
    pub fn admits(&self, url: &Url) -> bool {
        self.0.rules.check(url).is_ok()
    }

    /// Whether this client serves a local network.
    pub fn allows_private(&self) -> bool {
        self.0.rules.relaxed
    }

    async fn follow(&self, service: &'static str, mut request: Request) -> Result<Answer> {
        self.0.rules.check(&request.url).map_err(|why| Error::invalid("url", "URL_REFUSED", why))?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.ask(service, &request).await?;
            if !request.follow_redirects || request.method != Method::GET {
                return Ok(answer);
            }
            let Some(target) = redirect(&answer, &request.url) else { return Ok(answer) };
            self.0.rules.check(&target).map_err(|why| Error::upstream(service, anyhow!("bad redirect: {why}")))?;
            if target.origin() != request.url.origin() {
                request.headers.clear(); // they were meant for the one host
            }
            request.url = target;
        }
        Err(Error::upstream(service, anyhow!("more than {MAX_REDIRECTS} redirects")))
    }

    /// One request without redirects. The place at the host is given back before the next hop, so hops cannot deadlock.
    async fn ask(&self, service: &'static str, request: &Request) -> Result<Answer> {
        let host = self.0.hosts.of(&request.url);
        let _place = self.enter(service, &host).await?;
        let pass = host.breaker.admit().map_err(|resting| {
            if resting.was_asked {
                Error::RateLimited { retry_after: resting.retry_after }
            } else {
                Error::upstream(service, resting)
            }
        })?;
        host.turn().await;
        let outcome = self.read(service, request).await;
        self.judge(service, pass, &outcome);
        match outcome {
            Ok(answer) if answer.status == 429 => Err(Error::RateLimited { retry_after: pause(&answer.headers) }),
            outcome => outcome,
        }
    }

    /// What an answer says of its host. A name without an address, or an answer that is too long, says nothing; nor does 500,
    /// which may be about what was asked for.
    fn judge(&self, service: &'static str, pass: Pass, outcome: &Result<Answer>) {
        let asks = |answer: &Answer| {
            answer.status == 429 || (answer.status == 503 && answer.headers.contains_key(RETRY_AFTER))
        };
        let has_opened = match outcome {
            Ok(answer) if asks(answer) => pass.rests(pause(&answer.headers)),
            Ok(Answer { status: 500, .. }) => false,
            Ok(Answer { status: 502..=504, .. }) => pass.fails(),
            Ok(_) => {
                if pass.works() {
                    self.0.hosts.changed();
                }
                false
            }
            Err(error) if has_no_address(error) || is_too_large(error) => false,
            Err(_) => pass.fails(),
        };
        if has_opened {
            self.0.hosts.opened(service);
        }
    }

    async fn read(&self, service: &'static str, request: &Request) -> Result<Answer> {
        let failed = |error: reqwest::Error| Error::upstream(service, error);
        let mut asked = self.0.client.request(request.method.clone(), request.url.clone());
        asked = asked.headers(request.headers.clone());
        if !request.body.is_empty() {
            asked = asked.body(request.body.clone());
        } else if request.method == Method::POST {
            asked = asked.header(CONTENT_LENGTH, 0); // some hosts answer 411 without
        }
        let mut response = asked.send().await.map_err(failed)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut answer = Answer { status, headers, body: Bytes::new() };
        if status == 429 || redirect(&answer, &request.url).is_some() {
            return Ok(answer); // nobody reads that body
        }
        let most = self.0.max_body_bytes;
        let limit = request.max_body_bytes.unwrap_or(most).min(most);
        let too_large = || Error::upstream(service, TooLarge(limit));
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > limit - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        answer.body = body.freeze();
        Ok(answer)
    }

    /// How long the host of a URL is left alone; `None` while it may be asked.
    pub fn rest(&self, url: &Url) -> Option<Duration> {
        self.0.hosts.of(url).breaker.rest().filter(|rest| !rest.is_zero())
    }

    async fn enter(&self, service: &'static str, host: &Host) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(self.0.timeout * 3, Arc::clone(&host.places).acquire_owned()).await {
            Ok(place) => place.map_err(Error::bug),
            Err(_) => Err(Error::upstream(service, anyhow!("too many requests wait for this host"))),
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

/// Whether a request failed because the host's name has no address that may be connected to: a fact about the name, not
/// a failure of the network.
pub(crate) fn has_no_address(error: &Error) -> bool {
    matches!(error, Error::Upstream { source, .. } if source.chain().any(<dyn std::error::Error>::is::<NoAddress>))
}

/// Whether a request failed because the answer was longer than the limit.
pub(crate) fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Upstream { source, .. } if source.is::<TooLarge>())
}

/// How long a host asks to be left alone, or is left alone, where a request failed because of that.
pub(crate) fn rest_of(error: &Error) -> Option<Duration> {
    match error {
        Error::RateLimited { retry_after } => Some(*retry_after),
        Error::Upstream { source, .. } => source.downcast_ref::<Resting>().map(|resting| resting.retry_after),
        _ => None,
    }
}

/// Whether a request failed without having been made, because its host is left alone.
fn is_resting(error: &Error) -> bool {
    matches!(error, Error::Upstream { source, .. } if source.is::<Resting>())
}
