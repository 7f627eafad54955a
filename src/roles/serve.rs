//! The whole program: starts the roles, waits for a signal or a failure, and lets everything finish.

mod gather;
mod linger;
mod listen;

use std::{collections::BTreeSet, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{Role, firehose, process, sweep};
use crate::{
    api::{self, http::Probes},
    app::{self, App},
    config::Config,
    error::{Error, Result},
    telemetry::{self, Outage},
};

/// How long the tables are waited for, and how often they are looked at.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_secs(1);

/// Where the roles do not bring the tables up to date themselves, waits for whoever does: in a cluster the two are started
/// together.
///
/// Errors: those of [`app::connect`], and `Unavailable` when nobody has done it within five minutes.
pub async fn await_tables(config: &Config) -> Result<()> {
    if config.database.migrate {
        return Ok(());
    }
    let db = app::connect(config).await?;
    let begun = Instant::now();
    let mut outage = Outage::default();
    let ready = loop {
        match db.check_tables().await {
            Err(error) if begun.elapsed() < PATIENCE => {
                if outage.fails() {
                    info!(
                        reason = error.chain(),
                        "waiting for the tables: `openmeet-gateway migrate` brings them up to date"
                    );
                }
                tokio::time::sleep(LOOK).await;
            }
            outcome => break outcome,
        }
    };
    db.close().await;
    ready
}

/// Runs the roles until SIGTERM, SIGINT, or the end of one of them, and then for as long as they need to finish, at most
/// the configured grace, or until the next such signal.
pub async fn run(app: App, roles: &BTreeSet<Role>, metrics: PrometheusHandle) -> Result<()> {
    let shutdown = CancellationToken::new();
    // Watched from here on: a signal during the start is no sudden death.
    let mut signals = Signals::watch();
    // Bound before anything else is opened: a taken port is told at once.
    let listener = listen::bind(&app.config.http).await?;
    let mut tasks = JoinSet::new();
    let is_api = roles.contains(&Role::Api);
    // Who only serves needs no queue, but for dead letters that are tried again: it opens them then.
    let others: Vec<Role> = roles.iter().copied().filter(|role| *role != Role::Api).collect();
    let queues = if others.is_empty() { None } else { Some(app.queues().await?.clone()) };
    let probes = Probes {
        metrics: metrics.clone(),
        broker: queues.as_ref().and_then(|queues| queues.broker.clone()),
        needs_broker: !is_api && others.iter().any(|role| matches!(role, Role::Firehose | Role::Process)),
    };
    if is_api {
        tasks.spawn(app.changes.clone().run(shutdown.clone()));
    }
    tasks.spawn(named("http", serve(app.clone(), listener, is_api, probes, shutdown.clone())));
    for (role, queues) in others.into_iter().filter_map(|role| Some((role, queues.clone()?))) {
        let (app, token) = (app.clone(), shutdown.clone());
        match role {
            Role::Api => {}
            Role::Firehose => drop(tasks.spawn(named("firehose", firehose::run(app, queues, token)))),
            Role::Process => drop(tasks.spawn(named("process", process::run(app, queues, token)))),
            Role::Sweep => drop(tasks.spawn(named("sweep", sweep::run(app, queues, token)))),
        }
    }
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    info!(roles = names.join(","), "started");
    tasks.spawn(telemetry::keep_up(metrics, shutdown.clone()));
    let failure = tokio::select! {
        name = signals.next() => {
            info!("{name}: finishing");
            None
        }
        ended = tasks.join_next() => Some(ended),
    };
    shutdown.cancel();
    let grace = app.config.http.shutdown_grace();
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = tokio::time::sleep(grace) => warn!("not everything finished within {} s; leaving", grace.as_secs()),
        // Whoever says it twice does not want to wait.
        name = signals.next() => warn!("{name} again: leaving before everything has finished"),
    }
    match failure {
        None => Ok(()),
        Some(Some(Err(panic))) => Err(Error::bug(panic)),
        Some(_) => Err(Error::bug(anyhow::anyhow!("a role ended by itself; the log says why"))),
    }
}

/// Logs how a role ended: nobody else sees it.
async fn named(role: &'static str, run: impl Future<Output = Result<()>>) {
    match run.await {
        Ok(()) => info!(role, "ended"),
        Err(error) => tracing::error!(role, error = error.chain(), "a role failed"),
    }
}

async fn serve(
    app: App,
    listener: TcpListener,
    is_api: bool,
    probes: Probes,
    shutdown: CancellationToken,
) -> Result<()> {
    let open = TaskTracker::new();
    let router = if is_api {
        api::http::router(&app, probes, shutdown.clone(), open.clone())?
    } else {
        api::http::probes(&app, probes, shutdown.clone())
    };
    listen::serve(listener, router, &app.config.http, &shutdown).await;
    // Connections that became sockets are nobody's any more; they get to say that the server restarts.
    open.close();
    open.wait().await;
    Ok(())
}

/// What asks the process to end; none where signals cannot be watched.
struct Signals(Option<[(&'static str, Signal); 2]>);

impl Signals {
    /// Those that come from now on.
    fn watch() -> Self {
        let (Ok(terminate), Ok(interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            warn!("signals cannot be watched; only a failure ends the process");
            return Self(None);
        };
        Self(Some([("SIGTERM", terminate), ("SIGINT", interrupt)]))
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        let Some([(terminate, terminated), (interrupt, interrupted)]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminated.recv() => terminate,
            _ = interrupted.recv() => interrupt,
        }
    }
}
