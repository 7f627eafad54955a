//! A connection to the broker that comes back.

use std::{io, sync::Arc, time::Duration};

use anyhow::anyhow;
use lapin::{
    Channel, Connect, Connection, ConnectionProperties, ErrorKind,
    types::LongString,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use super::topology::{Topology, short};
use crate::{
    error::{Error, Result},
    infra::resilience::{Circuit, Policy},
};

/// What connecting and declaring may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What any other answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Seconds between two heartbeats where the URL asks for no other: a connection that has silently died is noticed after two.
const HEARTBEAT: u16 = 15;
/// Pauses after a failure to connect.
pub(super) const POLICY: Policy =
    Policy { failures: 1, first: Duration::from_millis(500), longest: Duration::from_secs(4) };

/// One connection, opened when it is needed and opened again when it has failed; then the topology is declared again too,
/// for a broker may come back empty. Attempts are paced by the broker's circuit, whoever asks: between two of them everybody
/// is told no at once.
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

impl Link {
    pub(super) fn new(uri: AMQPUri, name: &'static str, topology: Arc<Topology>, circuit: Circuit) -> Self {
        Self { uri, name, topology, circuit, state: Mutex::default() }
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let mut state = self.state.lock().await;
        let is_open = state.connection.as_ref().is_some_and(|connection| connection.status().connected());
        if !(is_open && state.is_declared) {
            let pass = self.circuit.admit()?;
            let outcome = match timeout(PATIENCE, self.open(&mut state, is_open)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(self.failed(&mut state, error.into())),
                Err(late) => Err(self.failed(&mut state, late.into())),
            };
            self.circuit.judge(pass, &outcome);
            outcome?;
        }
        let Some(connection) = &state.connection else { return Err(unavailable(anyhow!("not connected"))) };
        match bounded(connection.create_channel()).await {
            Ok(channel) => Ok(channel),
            Err(error) => Err(self.failed(&mut state, error.into())),
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
