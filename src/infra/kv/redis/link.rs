//! The connection to the server, and what becomes of it.
//!
//! One connection carries all commands. One that was closed is opened again by the next command. One that does not answer in
//! time, or cannot be opened, puts the server *away*: commands then fail at once, so that an outage costs nobody a wait, and
//! its circuit looks in the background until the server answers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use anyhow::anyhow;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, ServerErrorKind,
    aio::{MultiplexedConnection, PubSub},
};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    error::{Error, Result},
    infra::resilience::{Circuit, Dependency, Policy},
};

/// What opening a connection may take.
const CONNECT: Duration = Duration::from_millis(900);
/// What an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Longest pause between two tries while the server is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// One failure tells enough: a look costs little, and everything goes on without the server.
const POLICY: Policy = Policy { failures: 1, first: Duration::from_millis(200), longest: LONGEST_PAUSE };
/// Commands that may wait to be written before others wait to be taken.
const BUFFER: usize = 1_000;

/// Whether a command is sent again when the connection broke off under it, perhaps after it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Carried out twice it does the same.
    Once,
    /// The second answer would not be the first.
    Never,
}

pub(super) struct Link {
    client: Client,
    /// For messages.
    place: String,
    state: Mutex<State>,
    /// Held while a command opens a connection, so that the others wait for it.
    opening: tokio::sync::Mutex<()>,
    circuit: Circuit,
    me: Weak<Self>,
}

enum State {
    /// No connection. While the circuit is closed there is no reason to think that there could be none.
    Apart { number: u64 },
    /// Connected, for the n-th time.
    Joined { number: u64, connection: MultiplexedConnection },
}

impl Link {
    pub(super) fn new(url: &str) -> Result<Arc<Self>> {
        let refuse = |_| Error::invalid("kv.url", "CONFIG_INVALID", "expected redis://HOST:PORT/NUMBER or rediss://…");
        let info = url.into_connection_info().map_err(refuse)?;
        // The third version of the protocol says when a connection ends, before the next command finds out.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings);
        let place = info.addr().to_string();
        let client = Client::open(info).map_err(refuse)?;
        let (state, opening) = (Mutex::new(State::Apart { number: 0 }), tokio::sync::Mutex::new(()));
        Ok(Arc::new_cyclic(|me: &Weak<Self>| {
            let link = me.clone();
            let circuit = Circuit::looking(Dependency::Redis, POLICY, move || Box::pin(come_back(link.clone())));
            Self { client, place, state, opening, circuit, me: me.clone() }
        }))
    }

    pub(super) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Connects, or lets the background do it when that does not work: either way the log says so.
    pub(super) async fn look(&self) {
        // What is wrong is logged where the state changes.
        let _ = self.connection().await;
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd, repeat: Repeat) -> Result<T> {
        let mut may_repeat = repeat == Repeat::Once;
        loop {
            let (number, mut connection) = self.connection().await?;
            let error = match command.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.suspect(number, &error);
            if !(may_repeat && error.is_connection_dropped()) {
                return Err(self.failure(error));
            }
            may_repeat = false;
        }
    }

    /// A connection of its own for listening.
    pub(super) async fn listen(&self, channel: &str) -> Result<PubSub> {
        let subscribe = async {
            let mut listening = self.client.get_async_pubsub().await?;
            listening.subscribe(channel).await?;
            Ok::<_, RedisError>(listening)
        };
        match timeout(CONNECT + ANSWER, subscribe).await {
            Ok(outcome) => outcome.map_err(|error| self.failure(error)),
            Err(late) => Err(Error::Unavailable { service: "redis", source: late.into() }),
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection)> {
        if let Some(outcome) = self.present() {
            return outcome;
        }
        let _opening = self.opening.lock().await;
        if let Some(outcome) = self.present() {
            return outcome;
        }
        self.open().await.map_err(|error| {
            let failure =
                Error::Unavailable { service: "redis", source: anyhow!("{error}").context(self.place.clone()) };
            self.give_up(&error);
            failure
        })
    }

    /// The connection there is, or why there is none; nothing when one should be opened.
    fn present(&self) -> Option<Result<(u64, MultiplexedConnection)>> {
        match &*self.state() {
            State::Joined { number, connection } => Some(Ok((*number, connection.clone()))),
            State::Apart { .. } => self.circuit.admit().err().map(Err),
        }
    }

    async fn open(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let number = match &*self.state() {
            State::Apart { number } | State::Joined { number, .. } => number + 1,
        };
        let link = self.me.clone();
        let ended = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection
                && let Some(link) = link.upgrade()
            {
                link.part(number);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_pipeline_buffer_size(BUFFER)
            .set_push_sender(ended);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *self.state() = State::Joined { number, connection: connection.clone() };
        Ok((number, connection))
    }

    /// Looks at what an error says about the connection that it came from.
    fn suspect(&self, number: u64, error: &RedisError) {
        metrics::counter!("gateway_redis_failures_total").increment(1);
        // A server that has become a replica: behind its name there may be the new master by now.
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if error.is_connection_dropped() || is_replica {
            self.part(number);
        } else if error.is_io_error() || error.is_unrecoverable_error() {
            let is_current = matches!(&*self.state(), State::Joined { number: current, .. } if *current == number);
            if is_current {
                self.give_up(error);
            }
        }
    }

    /// The connection has ended.
    fn part(&self, number: u64) {
        let mut state = self.state();
        if matches!(&*state, State::Joined { number: current, .. } if *current == number) {
            *state = State::Apart { number };
        }
    }

    /// The server is away from now on, until the circuit reaches it again.
    fn give_up(&self, error: &RedisError) {
        let mut state = self.state();
        let (State::Apart { number } | State::Joined { number, .. }) = &*state;
        *state = State::Apart { number: *number };
        drop(state);
        if self.circuit.is_closed() {
            warn!(%error, place = self.place, "redis is away; going on without it until it is back");
        }
        let source = anyhow!(error.to_string()).context(self.place.clone());
        self.circuit.suffer(&Error::Unavailable { service: "redis", source });
    }

    fn failure(&self, error: RedisError) -> Error {
        match error.kind() {
            // The server understood us and refuses what we said.
            ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::UnexpectedReturnType => Error::bug(error),
            _ => Error::Unavailable { service: "redis", source: anyhow::Error::new(error).context(self.place.clone()) },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Looks whether the server answers.
async fn come_back(link: Weak<Link>) -> Result<()> {
    // Nobody wants it any more.
    let Some(link) = link.upgrade() else { return Ok(()) };
    link.open().await.map_err(|error| link.failure(error))?;
    info!(place = link.place, "redis is back");
    Ok(())
}

/// Pause after the n-th failure in a row, with jitter so that many do not come back at once.
pub(super) fn pause(failures: u32) -> Duration {
    let ceiling = Duration::from_millis(100 << failures.min(6)).min(LONGEST_PAUSE);
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}
