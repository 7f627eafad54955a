//! Measurements, printed beside what they are to be compared with and beside the aims. Nothing fails because it is slow:
//! only ratios carry from one machine to another.

#![expect(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "prints rounded numbers for people, that is what it is for"
)]

mod cost;
mod fanout;
mod floor;
mod ingest;
mod latency;
#[expect(clippy::indexing_slicing, reason = "what is chosen is among what there is")]
mod mix;
mod profiles;
mod replay;
mod rest;
/// What the tests use as well, as far as it is of use here.
#[expect(
    dead_code,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, and so does a measurement"
)]
#[path = "../tests/it/support"]
mod support {
    pub(crate) mod app;
    pub(crate) mod appview;
    pub(crate) mod database;
    pub(crate) mod devnet;
    pub(crate) mod graphql;
    pub(crate) mod process;
    pub(crate) mod records;
}
/// A broker's names for each run, as the tests have them.
#[expect(dead_code, clippy::expect_used, clippy::unwrap_used, reason = "see above")]
#[path = "../tests/it/queue/broker.rs"]
mod broker;
mod table;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the gateway, and beside it the database's and the network's own path.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// Records of the replay; fewer make a smoke test
    #[arg(long, default_value_t = 20_000, value_parser = at_least_100)]
    records: usize,
    /// Messages of the long stream
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_100)]
    messages: usize,
    /// Subscribers of the fan-out
    #[arg(long, default_value_t = 5_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    subscribers: usize,
    /// How many of them are signed in, by default half
    #[arg(long)]
    signed_in: Option<usize>,
    /// How often each is measured; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Cargo says that it is a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Replay of records, beside the same rows written by hand
    Replay,
    /// A long stream, directly and through RabbitMQ, beside the same rows written by hand
    Ingest,
    /// From a write on a PDS to a subscriber, on the local network
    Latency,
    /// Requests to an AppView for a thousand profiles
    Profiles,
    /// Time to start, and memory at rest
    Rest,
    /// One event to thousands of subscribers, beside a bare broadcast server
    Fanout,
    /// Everything
    All,
    /// The bare broadcast server by itself
    #[value(hide = true)]
    Bare,
}

fn at_least_100(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|records| *records >= 100).ok_or_else(|| "a number from 100 on".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { part, records, messages, subscribers, signed_in, runs, .. } = arguments;
    if part == Part::Bare {
        return fanout::serve_bare().await;
    }
    let wants = |one| part == one || part == Part::All;
    if wants(Part::Replay) {
        replay::run(records, runs).await?;
    }
    if wants(Part::Ingest) {
        ingest::run(messages).await?;
    }
    if wants(Part::Latency) {
        latency::run().await?;
    }
    if wants(Part::Profiles) {
        profiles::run().await?;
    }
    if wants(Part::Rest) {
        rest::run(records).await?;
    }
    if wants(Part::Fanout) {
        fanout::run(subscribers, signed_in.unwrap_or(subscribers / 2)).await?;
    }
    Ok(())
}
