//! A connection to the broker that comes back.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::anyhow;
use lapin::{
    Channel, Connect, Connection, ConnectionProperties, ErrorKind,
    types::LongString,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::topology::{Topology, short};
use crate::{
    error::{Error, Result},
    infra::resilience::{Circuit, Policy},
};

/// What connecting and declaring may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long somebody who is trying to connect is waited for while the broker is known to be away.
const SOON: Duration = Duration::from_secs(1);
/// What any other answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Seconds between two heartbeats where the URL asks for no other: a connection that has silently died is noticed after two.
const HEARTBEAT: u16 = 15;
/// Pauses after a failure to connect.
pub(super) const POLICY: Policy =
    Policy { failures: 1, first: Duration::from_millis(500), longest: Duration::from_secs(2) };

/// One connection, opened when it is needed and opened again when it has failed; then the topology is declared again too,
/// for a broker may come back empty. After a failure to connect everybody is told no at once, while the broker's circuit looks
/// by itself whether it is back.
///
/// The library's own recovery is not used: it lets channels live on under the same numbers, and a delivery of the old
/// connection must never be acknowledged on the new one.
pub(super) struct Link {
    uri: AMQPUri,
    /// Shown in the broker's list of connections.
    name: &'static str,
    topology: Arc<Topology>,
    circuit: Circuit,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    is_declared: bool,
}

impl State {
    fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.status().connected())
    }

    fn is_usable(&self) -> bool {
        self.is_open() && self.is_declared
    }
}

impl Link {
    pub(super) fn new(uri: AMQPUri, name: &'static str, topology: Arc<Topology>, circuit: Circuit) -> Self {
        Self { uri, name, topology, circuit, state: Mutex::default() }
    }

    pub(super) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let mut state = self.enter().await?;
        if !state.is_usable() {
            let pass = self.circuit.admit()?;
            let outcome = self.mend(&mut state).await;
            self.circuit.judge(pass, &outcome);
            outcome?;
        }
        self.open_channel(&mut state).await
    }

    /// Waits for whoever is connecting, but not for long while the broker is away.
    async fn enter(&self) -> Result<MutexGuard<'_, State>> {
        let patience = if self.circuit.is_closed() { PATIENCE } else { SOON };
        timeout(patience, self.state.lock()).await.map_err(|_| unavailable(anyhow!("it is being connected to")))
    }

    async fn mend(&self, state: &mut State) -> Result<()> {
        let is_open = state.is_open();
        match timeout(PATIENCE, self.open(state, is_open)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(state, error.into())),
            Err(late) => Err(self.failed(state, late.into())),
        }
    }

    async fn open_channel(&self, state: &mut State) -> Result<Channel> {
        let Some(connection) = &state.connection else { return Err(unavailable(anyhow!("not connected"))) };
        match bounded(connection.create_channel()).await {
            Ok(channel) => Ok(channel),
            Err(error) => Err(self.failed(state, error.into())),
        }
    }

    /// Has the topology declared again before the next channel is opened: something of it was found missing.
    pub(super) async fn distrust(&self) {
        self.state.lock().await.is_declared = false;
    }

    /// The same after a failure of any kind. A connection that did not answer at all is closed.
    pub(super) async fn distrust_after(&self, error: &lapin::Error) {
        let mut state = self.state.lock().await;
        state.is_declared = false;
        if matches!(error.kind(), ErrorKind::IOError(error) if error.kind() == io::ErrorKind::TimedOut) {
            close(state.connection.take());
        }
    }

    async fn open(&self, state: &mut State, is_open: bool) -> lapin::Result<()> {
        if !is_open {
            state.connection = None;
            let mut uri = self.uri.clone();
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
            let name = LongString::from(format!("openmeet-gateway {}", self.name));
            let properties = ConnectionProperties::default().with_connection_name(name);
            state.connection = Some(uri.connect(properties).await?);
        }
        if let Some(connection) = &state.connection {
            self.topology.declare(&connection.create_channel().await?).await?;
        }
        state.is_declared = true;
        Ok(())
    }

    fn failed(&self, state: &mut State, source: anyhow::Error) -> Error {
        // A connection on which declaring failed is of no use either.
        close(state.connection.take());
        state.is_declared = false;
        let scheme = if self.uri.scheme == AMQPScheme::AMQPS { "amqps" } else { "amqp" };
        let place = format!("connect to {scheme}://{}:{}", self.uri.authority.host, self.uri.authority.port);
        unavailable(source.context(place))
    }
}

/// Looks whether the broker is back: it can be connected to, has all that is declared, and answers. This goes on when nobody
/// waits for it any more, for a broker that starts may need longer than somebody who looks has.
pub(super) async fn come_back(link: Weak<Link>) -> Result<()> {
    // Nobody wants it any more.
    let Some(link) = link.upgrade() else { return Ok(()) };
    let trying = tokio::spawn(async move {
        let Ok(mut state) = link.state.try_lock() else {
            return Err(unavailable(anyhow!("it is being connected to")));
        };
        if !state.is_usable() {
            link.mend(&mut state).await?;
        }
        let channel = link.open_channel(&mut state).await?;
        bounded(channel.close(200, short("OK"))).await.map_err(unavailable)
    });
    trying.await.map_err(unavailable)?
}

impl Drop for Link {
    fn drop(&mut self) {
        close(self.state.get_mut().connection.take());
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The library closes a connection when nothing uses it any more; a consumption that was cut short would count for ever.
fn close(connection: Option<Connection>) {
    if let (Some(connection), Ok(runtime)) = (connection, Handle::try_current()) {
        runtime.spawn(async move { bounded(connection.close(200, short("OK"))).await });
    }
}

/// An answer of the broker, or the error `TimedOut`: a connection that breaks at the wrong moment may leave a question
/// without any.
pub(super) async fn bounded<T>(answer: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    timeout(ANSWER, answer).await.unwrap_or_else(late)
}

/// The broker is away, or does not do what it should.
pub(super) fn unavailable(source: impl Into<anyhow::Error>) -> Error {
    Error::Unavailable { service: "broker", source: source.into() }
}
