//! What the process says about itself: log lines, panics among them, metrics, and traces where a collector wants them.
//!
//! Logs go to standard error; standard output belongs to the commands. Metrics are described in
//! `src/telemetry/descriptions.rs`, those of GraphQL at its door, and rendered by the `/metrics` door from the handle
//! that [`metrics()`] returns.

mod descriptions;
mod outage;
mod traces;

use std::{
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use self::{
    descriptions::describe,
    outage::Outage,
    traces::{Facts, Traces, caused, is_collected, tell, traceparent},
};
use crate::{
    config::{Log, LogFormat, Telemetry},
    error::{Error, Result},
};

/// Bounds in seconds of every histogram whose name ends in `_seconds`: from a look-up in memory to a slow foreign host.
const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How often observations are moved from the recorder's buffers into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging as configured, panics included. Once a process: a second call is an [`Error::Bug`].
pub fn logs(log: &Log) -> Result<()> {
    begin(log, &Traces::default())
}

/// The same, and sends traces as configured, from within the runtime. The roles are told to the collector.
pub fn logs_and_traces(log: &Log, telemetry: &Telemetry, roles: &str) -> Result<Traces> {
    let traces = Traces::start(telemetry, roles)?;
    begin(log, &traces)?;
    Ok(traces)
}

fn begin(log: &Log, traces: &Traces) -> Result<()> {
    // The client of the broker logs as an error whatever it returns as one, and PostgreSQL notes at each start that its
    // tables are there; who asks for these lines by name gets them.
    let quiet = "lapin=off,sqlx::postgres::notice=warn";
    let filter = EnvFilter::try_new(format!("{quiet},{}", log.level)).map_err(Error::bug)?;
    let terminal = io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed()
    } else {
        lines.with_ansi(terminal).with_filter(filter).boxed()
    };
    tracing_subscriber::registry().with(lines).with(traces.layer()).try_init().map_err(Error::bug)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Starts counting metrics, described; the handle renders them. Once a process: a second call is an [`Error::Bug`].
///
/// [`keep_up`] has to run beside it, or histograms grow until the next rendering.
pub fn metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(Error::bug)?
        .install_recorder()
        .map_err(Error::bug)?;
    describe();
    Ok(handle)
}

/// Keeps the recorder's buffers small until it is told to stop.
pub async fn keep_up(metrics: PrometheusHandle, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        metrics.run_upkeep();
    }
}

/// A panic is a line like every other failure, so that it is found where the others are.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        place,
        thread = thread.name().unwrap_or("unnamed"),
        backtrace = %std::backtrace::Backtrace::capture(),
        "failed with a panic: {}",
        text.unwrap_or("no message")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_rendered_as_buckets() {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .unwrap()
            .build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::histogram!("gateway_test_seconds").record(0.003));
        let text = handle.render();
        assert!(text.contains(r#"gateway_test_seconds_bucket{le="0.0025"} 0"#), "{text}");
        assert!(text.contains(r#"gateway_test_seconds_bucket{le="0.005"} 1"#), "{text}");
    }
}
