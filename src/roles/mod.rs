//! The processes: which loops run, how they start and how they stop.

mod backfill;
mod firehose;
mod process;
pub mod replay;
pub mod serve;
mod sweep;

use std::{str::FromStr, time::Duration};

use metrics::gauge;

use crate::{
    app::App,
    error::Error,
    infra::{queue::Queues, resilience::Circuit},
};

/// Between two measurements of what no event tells.
const MEASURE: Duration = Duration::from_secs(10);

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

/// Tells whether this process is the one that does what only one may.
fn tell_leader(work: &'static str, leads: bool) {
    gauge!("gateway_leader", "work" => work).set(if leads { 1.0 } else { 0.0 });
}

/// What somebody needs who publishes or processes.
fn needs(app: &App, queues: &Queues) -> Vec<Circuit> {
    let broker = queues.broker.iter().map(|broker| broker.circuit().clone());
    broker.chain([app.db.circuit().clone()]).collect()
}
