//! Servers that are stopped, killed and paused, and roles that are killed, one after the other while records come in: after each
//! fault the state is what the oracle says, whoever subscribed has seen every change, and all goes on by itself.
//!
//! In a short form with all other tests. `scripts/soak` runs it at length: `GATEWAY_SOAK_MINUTES` says how long, and
//! `GATEWAY_SOAK_SEED` which histories and faults.

#![expect(clippy::print_stdout, reason = "the report is what the test is for")]

mod broker;
mod fleet;
mod recovery;
mod report;
pub(crate) mod servers;
mod settled;
mod source;
mod subscriber;
mod world;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::FutureExt;

use self::{
    fleet::Fleet,
    servers::{Kind, Programs, Servers},
    world::World,
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// Within this time all goes on when a server is back.
const SOON: Duration = Duration::from_secs(10);
/// Between two looks at the tables.
const LOOK: Duration = Duration::from_millis(50);
/// Nobody's patience is tried.
const SHORT: Duration = Duration::from_secs(1);
/// Longer than heartbeats may stay away, than a publication waits for its confirmation, and than a statement may take.
const LONG: Duration = Duration::from_secs(36);

/// What is done to whom.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Ended in good order, and started after a while.
    Stop(Kind),
    /// Ended without a warning, and started at once.
    Restart(Kind),
    /// Stands still for a while, with all its connections open.
    Pause(Kind),
    /// A process of ours by its number: ended without a warning, and started at once.
    Kill(usize),
}

impl Fault {
    /// Each of them.
    fn all() -> Vec<Self> {
        let servers = Kind::ALL.into_iter().flat_map(|kind| [Self::Stop(kind), Self::Restart(kind), Self::Pause(kind)]);
        servers.chain((0..Fleet::SIZE).map(Self::Kill)).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(kind) => write!(f, "{} stopped", kind.name()),
            Self::Restart(kind) => write!(f, "{} restarted", kind.name()),
            Self::Pause(kind) => write!(f, "{} paused", kind.name()),
            Self::Kill(number) => write!(f, "{} killed", Fleet::role(*number)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the test is to run is not a setting of the gateway")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number")))
}

/// Whether whatever is not installed is a failure.
#[expect(clippy::disallowed_methods, reason = "where tests run is not a setting of the gateway")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// One of those who do the same.
fn either(rng: &mut Rng, first: usize) -> Fault {
    Fault::Kill(first + rng.usize(..2))
}

/// One fault after the other: each kind once, or all of them again and again until the time is over.
async fn plan(world: &mut World, mut rng: Rng) {
    let Some(minutes) = number("GATEWAY_SOAK_MINUTES") else {
        let faults = [
            (Fault::Stop(Kind::Postgres), SHORT),
            (Fault::Pause(Kind::Redis), SHORT),
            (either(&mut rng, 2), SHORT),
            (Fault::Restart(Kind::RabbitMq), SHORT),
            (Fault::Pause(Kind::Postgres), SHORT),
            (Fault::Restart(Kind::Redis), SHORT),
            (either(&mut rng, 0), SHORT),
            (Fault::Pause(Kind::RabbitMq), LONG),
            (Fault::Restart(Kind::Postgres), SHORT),
            (either(&mut rng, 4), SHORT),
            (Fault::Stop(Kind::RabbitMq), SHORT),
            (either(&mut rng, 6), SHORT),
            (Fault::Stop(Kind::Redis), SHORT),
        ];
        for (fault, length) in faults {
            tell(world, fault, length).await;
        }
        return world.share().await;
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(minutes) {
        let mut faults = Fault::all();
        rng.shuffle(&mut faults);
        for fault in faults {
            let longest = if rng.bool() { 5_000 } else { 90_000 };
            let length = Duration::from_millis(rng.u64(200..longest));
            tell(world, fault, length).await;
        }
        world.share().await;
    }
}

/// Survives it, and tells so.
async fn tell(world: &mut World, fault: Fault, length: Duration) {
    let begun = Instant::now();
    world.survive(fault, length).await;
    println!("{fault}: over after {:.1} s", begun.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_nothing_is_lost_and_nothing_doubled() {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(missing) => {
            assert!(!is_ci() && number("GATEWAY_SOAK_MINUTES").is_none(), "{missing} must be installed");
            println!("skipped: {missing} is not installed");
            return;
        }
    };
    let seed = number("GATEWAY_SOAK_SEED").unwrap_or(1);
    let mut world = World::start(Servers::start(&programs).await, seed).await;
    let outcome = AssertUnwindSafe(plan(&mut world, Rng::with_seed(seed))).catch_unwind().await;
    if let Err(panic) = outcome {
        println!("{}\n{}", world.report, world.fleet.log());
        let World { servers, fleet, subscribers, .. } = world;
        drop((fleet, subscribers));
        servers.discard().await;
        std::panic::resume_unwind(panic);
    }
    let (servers, report) = world.end().await;
    println!("{report}");
    servers.discard().await;
}
