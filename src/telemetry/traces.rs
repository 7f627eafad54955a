//! Traces: what this process did, span by span, for a collector that speaks OTLP (HTTP with protobuf).
//!
//! Spans are named noun.verb. Without a collector they cost next to nothing: they only give log lines their context. With one
//! they are sent in batches by a thread of their own; what finds no place in its queue is lost, and nobody ever waits.
//!
//! The context is the `traceparent` of W3C. It is accepted at the doors and carried through the queue. It is never sent to
//! hosts of the network, to which our traces are no business.

use std::{
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::counter;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber, level_filters::LevelFilter, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::Outage;
use crate::{
    config::Telemetry,
    error::{Error, Result},
};

/// What the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the last spans may take at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Causes that one span is linked with; those of a batch that has more are left out.
const LINKS: usize = 32;
/// Events that one span keeps: a few batches of messages. What is more is lost.
const EVENTS: u32 = 2_000;
/// Spans that wait for the collector, and that are sent at once. Some hold an event for each message of a batch, a hundred
/// kilobytes and more, and collectors take 20 MB in one piece.
const WAITING: usize = 512;
const AT_ONCE: usize = 64;
/// Longest `traceparent` that is looked at; later versions may be longer than the 55 bytes of the present one.
const LONGEST: usize = 256;
/// Where a collector takes spans, behind its address.
const PATH: &str = "/v1/traces";

/// Whether this process sends traces.
static COLLECTED: AtomicBool = AtomicBool::new(false);

/// What is known of something, by name.
pub type Facts = Vec<(&'static str, String)>;

/// The traces of this process. To be [ended](Self::end), or the last spans are lost.
#[derive(Debug, Default)]
#[must_use = "what is not ended loses its last spans"]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Starts sending to the configured collector, from within the runtime; nothing where none is configured.
    pub(super) fn start(settings: &Telemetry, roles: &str) -> Result<Self> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Self::default()) };
        let address = format!("{}{PATH}", endpoint.as_str().trim_end_matches('/').trim_end_matches(PATH));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Courier::new()?)
            .with_endpoint(address)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()
            .map_err(Error::bug)?;
        #[expect(clippy::cast_precision_loss, reason = "a share of some billions is none")]
        let share = 1.0 / settings.sample_one_in as f64;
        let batches = BatchConfigBuilder::default().with_max_queue_size(WAITING).with_max_export_batch_size(AT_ONCE);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_max_events_per_span(EVENTS)
            // Whoever began a trace has decided whether it is kept.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(
                Resource::builder()
                    .with_service_name("openmeet-gateway")
                    .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                    .with_attribute(KeyValue::new("gateway.roles", roles.to_owned()))
                    .build(),
            )
            .build();
        COLLECTED.store(true, Ordering::Relaxed);
        Ok(Self { provider: Some(provider) })
    }

    /// The layer that turns our spans into those of traces. Of the level INFO, whatever is logged.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> Option<impl Layer<S> + use<S>> {
        let tracer = self.provider.as_ref()?.tracer("gateway");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        Some(layer.with_filter(Targets::new().with_target("gateway", LevelFilter::INFO)))
    }

    /// Sends what is left, within a few seconds.
    pub async fn end(self) {
        let Some(provider) = self.provider else { return };
        // It blocks, and the runtime has to go on meanwhile: it carries the last batch.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FAREWELL)).await;
        if !matches!(ended, Ok(Ok(()))) {
            warn!("the last spans were not delivered");
        }
    }
}

/// Whether spans go anywhere from here: for those that would cost something as long as they are open.
pub fn is_collected() -> bool {
    COLLECTED.load(Ordering::Relaxed)
}

/// Tells the current span of things that happened in it. They are looked at only where it is recorded.
pub fn tell(event: &'static str, things: impl FnOnce() -> Vec<Facts>) {
    let context = Span::current().context();
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    for facts in things() {
        span.add_event(event, facts.into_iter().map(|(name, fact)| KeyValue::new(name, fact)).collect());
    }
}

/// The `traceparent` of the span that is current, for those who go on with its work elsewhere. None where spans go nowhere.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let origin = span.span_context();
    origin
        .is_valid()
        .then(|| format!("00-{}-{}-{:02x}", origin.trace_id(), origin.span_id(), origin.trace_flags().to_u8()))
}

/// A span with its causes: the child of the only one, or linked with several, since a batch belongs to many traces. What is
/// no `traceparent` counts as none. To be called before the span is entered; where spans go somewhere, its field `trace_id` is
/// set, so that log lines find their trace.
pub fn caused<'a>(span: Span, causes: impl IntoIterator<Item = &'a str>) -> Span {
    if span.is_disabled() {
        return span;
    }
    let mut seen: Vec<&str> = Vec::new();
    for cause in causes {
        if seen.len() < LINKS && !seen.contains(&cause) {
            seen.push(cause);
        }
    }
    let contexts: Vec<Context> = seen.into_iter().filter_map(parse).collect();
    match contexts.as_slice() {
        [] => {}
        // Fails only where spans go nowhere.
        [one] => drop(span.set_parent(one.clone())),
        several => {
            for context in several {
                span.add_link(context.span().span_context().clone());
            }
        }
    }
    let context = span.context();
    if context.span().span_context().is_valid() {
        span.record("trace_id", context.span().span_context().trace_id().to_string());
    }
    span
}

/// A `traceparent` as W3C has it.
fn parse(text: &str) -> Option<Context> {
    struct Header<'a>(&'a str);
    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent").then_some(self.0)
        }
        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    if text.len() > LONGEST {
        return None;
    }
    // The library takes shorter numbers for long ones.
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if !lengths.starts_with(&[2, 32, 16, 2]) || !parts.iter().take(4).all(is_hex) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(text));
    let is_valid = SpanContext::is_valid(context.span().span_context());
    is_valid.then_some(context)
}

/// Carries batches to the collector, on the runtime of the program: the exporter's own thread has none.
#[derive(Debug)]
struct Courier {
    client: reqwest::Client,
    runtime: Handle,
    outage: Mutex<Outage>,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl Courier {
    fn new() -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let builder =
            || reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        // A machine without root certificates can still reach a collector over plain http.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build()).map_err(Error::bug)?;
        let runtime = Handle::try_current().map_err(Error::bug)?;
        Ok(Self { client, runtime, outage: Mutex::default() })
    }

    fn tell(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let trouble = match outcome {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered with status {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let label = if trouble.is_none() { "success" } else { "failure" };
        counter!("gateway_trace_exports_total", "outcome" => label).increment(1);
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            None => drop(outage.works()),
            Some(error) if outage.fails() => {
                warn!(error, "the collector takes no spans; they are lost until it does");
            }
            Some(_) => {}
        }
    }
}

impl HttpClient for Courier {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sending<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let response = Response::builder().status(answer.status());
            // What it says is of no use to anybody, and might be long.
            Ok::<_, HttpError>(response.body(Bytes::new())?)
        });
        Box::pin(async move {
            let outcome = sent.await.unwrap_or_else(|lost| Err(lost.into()));
            self.tell(&outcome);
            outcome
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_or_is_none() {
        let context = parse(PARENT).unwrap();
        assert_eq!(context.span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        for wrong in [
            "",
            "00",
            "nonsense",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-é",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn without_a_collector_nothing_is_carried() {
        let _span = caused(tracing::info_span!("batch.apply", trace_id = tracing::field::Empty), [PARENT]).entered();
        assert_eq!(traceparent(), None);
    }
}
