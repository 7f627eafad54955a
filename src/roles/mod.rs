//! The processes: which loops run, how they start and how they stop.

mod backfill;
mod firehose;
mod process;
pub mod replay;
pub mod serve;
mod sweep;

use std::{str::FromStr, time::Duration};

use crate::{
    app::App,
    error::Error,
    infra::queue::{Broker, BrokerSettings, Queue, Topic},
};

/// A loop that can run on a machine of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves GraphQL and the other doors.
    Api,
    /// Reads the network's streams into the queue.
    Firehose,
    /// Takes the queue through the pipeline.
    Process,
    /// Looks up handles, cuts the change log.
    Sweep,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Api, Self::Firehose, Self::Process, Self::Sweep];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Firehose => "firehose",
            Self::Process => "process",
            Self::Sweep => "sweep",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text.trim());
        named.ok_or_else(|| Error::invalid("roles", "ROLE_UNKNOWN", "a role is one of api, firehose, process, sweep"))
    }
}

/// The queues between the roles.
#[derive(Clone, Debug)]
pub struct Queues {
    /// Messages of the streams.
    pub records: Queue,
    /// Requests to read a repository again.
    pub resyncs: Queue,
}

impl Queues {
    /// Opens them: in the broker where the configuration names one, else in the database.
    pub async fn open(app: &App) -> Result<Self, Error> {
        let queue = &app.config.queue;
        let broker = match &queue.url {
            None => None,
            Some(url) => {
                let (url, prefix) = (url.clone(), queue.prefix.clone());
                let (partitions, prefetch) = (queue.partitions, queue.prefetch);
                let settings = BrokerSettings { url, prefix, partitions, prefetch, ..BrokerSettings::default() };
                Some(Broker::connect(&settings).await?)
            }
        };
        let open = |topic| match &broker {
            None => Queue::embedded(app.db.clone(), app.clock.clone(), topic),
            Some(broker) => Queue::rabbit(broker, app.clock.clone(), topic),
        };
        Ok(Self { records: open(Topic::Records), resyncs: open(Topic::Resyncs) })
    }
}

/// Pause after the n-th failure in a row: doubling from 100 ms to 10 s, with jitter so that many do not come back at once.
fn pause(failures: u32) -> Duration {
    let longest = 100u64 << failures.min(7);
    Duration::from_millis(fastrand::u64(longest / 2..=longest.min(10_000).max(longest / 2)))
}
