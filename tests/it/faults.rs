//! Servers that are stopped, killed and paused, and roles that are killed, one after the other while records come in: after each
//! fault the state is what the oracle says, whoever subscribed has seen every change, and all goes on by itself.
//!
//! In a short form with all other tests. `scripts/soak` runs it at length: `GATEWAY_SOAK_MINUTES` says how long, and
//! `GATEWAY_SOAK_SEED` which histories and faults.

#![expect(clippy::print_stdout, reason = "the report is what the test is for")]

mod fleet;
mod report;
pub(crate) mod servers;
mod source;
mod subscriber;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use entities::source_record;
use fastrand::Rng;
use futures_util::FutureExt;
use gateway::{
    domain::tenant::Tenant,
    infra::db::{Db, DbSettings},
};
use sea_orm::{
    AccessMode, ColumnTrait, EntityTrait, IsolationLevel, PaginatorTrait, QueryFilter, QuerySelect, TransactionTrait,
};

use self::{
    fleet::{Fleet, Role},
    report::Report,
    servers::{Kind, Programs, Servers},
    source::Source,
    subscriber::Subscriber,
};
use crate::{
    oracle::model::{State, faults_of_log},
    support::{
        feed::logged,
        jetstream::{self, Jetstream},
        process::Program,
    },
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// Within this time all goes on when a server is back.
const SOON: Duration = Duration::from_secs(10);
/// Between two looks at the tables.
const LOOK: Duration = Duration::from_millis(50);
/// Histories between two looks at the whole, of some forty messages each.
const HISTORIES: usize = 30;
const SUBSCRIBERS: u64 = 4;

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

/// Everything that runs.
struct World {
    servers: Servers,
    fleet: Fleet,
    stream: Jetstream,
    source: Source,
    subscribers: Vec<Subscriber>,
    /// What all that was sent means.
    expected: State,
    report: Report,
}

impl World {
    async fn start(mut servers: Servers, seed: u64) -> (Self, Rng) {
        let stream = jetstream::serve(Vec::new()).await;
        let program = Program::over(&servers.url(Kind::Postgres))
            .with("AMQP_URL", &servers.url(Kind::RabbitMq))
            .with("REDIS_URL", &servers.url(Kind::Redis))
            .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
            .with("GATEWAY_STREAMS__START", "oldest")
            // Small ones are in the middle of more.
            .with("GATEWAY_INGEST__BATCH_SIZE", "50")
            .with("GATEWAY_LOG__LEVEL", "warn,sqlx=off");
        let fleet = Fleet::start(program).await;
        let subscribers = (0..SUBSCRIBERS).map(|number| Subscriber::start(fleet.addresses(), seed ^ number)).collect();
        let (source, report) = (Source::new(seed), Report { seed, ..Report::default() });
        servers.of(Kind::Postgres).answering().await;
        let world = Self { servers, fleet, stream, source, subscribers, expected: State::default(), report };
        (world, Rng::with_seed(seed))
    }

    /// Connections that know of no fault.
    async fn database(&self) -> Db {
        let url = self.servers.url(Kind::Postgres);
        Db::connect(&DbSettings { url, max_connections: 4 }).await.unwrap()
    }

    fn tell(&mut self, lines: Vec<String>) {
        self.report.lines += lines.len();
        self.stream.tell(lines);
    }

    /// Records come in, and something happens meanwhile; in the end all is as it should be.
    async fn survive(&mut self, fault: Fault, length: Duration) {
        let round = self.source.round(HISTORIES);
        let [before, meanwhile, after] = round.parts;
        let db = self.database().await;
        let mark = committed(&db).await;
        self.tell(before);
        until(PATIENCE, "something is committed", async || committed(&db).await != mark).await;
        let is_needed = match fault {
            Fault::Stop(kind) | Fault::Restart(kind) | Fault::Pause(kind) => kind != Kind::Redis,
            Fault::Kill(number) => Fleet::role(number) == Role::Firehose,
        };
        match fault {
            Fault::Stop(kind) => self.servers.of(kind).stop().await,
            Fault::Restart(kind) => self.servers.of(kind).crash().await,
            Fault::Pause(kind) => self.servers.of(kind).pause().await,
            Fault::Kill(number) => self.fleet.kill(number).await,
        }
        if is_needed {
            self.tell(meanwhile);
        } else {
            // Nobody has to wait for who is not needed.
            let mark = committed(&db).await;
            self.tell(meanwhile);
            until(SOON, "something is committed without it", async || committed(&db).await != mark).await;
        }
        match fault {
            Fault::Stop(kind) => {
                tokio::time::sleep(length).await;
                self.servers.of(kind).spawn();
                self.servers.of(kind).answering().await;
            }
            Fault::Restart(kind) => {
                self.servers.of(kind).spawn();
                self.servers.of(kind).answering().await;
            }
            Fault::Pause(kind) => {
                tokio::time::sleep(length).await;
                self.servers.of(kind).resume().await;
            }
            Fault::Kill(number) => self.fleet.revive(number).await,
        }
        let returned = Instant::now();
        db.close().await;
        let db = self.database().await;
        self.tell(after);
        // Not just any commit: processors may still have had messages at hand.
        let fresh = source_record::Entity::find().filter(source_record::Column::Uri.is_in(round.fresh));
        let is_through = async || fresh.clone().count(db.read()).await.unwrap() > 0;
        until(SOON.saturating_sub(returned.elapsed()), "what is sent from now on is committed", is_through).await;
        self.report.count(fault.to_string(), returned.elapsed());
        self.report.messages += round.messages;
        self.expected.extend(round.expected);
        self.settle(&db).await;
        self.fleet.verify();
        db.close().await;
    }

    /// Waits until the tables are what the oracle says, and until everybody has seen all changes.
    async fn settle(&mut self, db: &Db) {
        let begun = Instant::now();
        let mut differences = vec!["nothing was looked at".to_owned()];
        while !differences.is_empty() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK * 4).await;
            // One snapshot, as long as somebody writes.
            let options = (Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly));
            let snapshot = db.pool().begin_with_config(options.0, options.1).await.unwrap();
            differences = self.expected.differences(&State::stored(&snapshot).await);
            snapshot.commit().await.unwrap();
        }
        let wrong = faults_of_log(db).await;
        let logged = logged(db.read(), Tenant::default(db.read()).await.unwrap()).await;
        while self.subscribers.iter().any(|s| s.heard.lock().unwrap().changes.len() < logged.len())
            && begun.elapsed() < PATIENCE
        {
            tokio::time::sleep(LOOK).await;
        }
        (self.report.lost, self.report.doubled) = (differences.len(), wrong.len());
        (self.report.changes, self.report.resumptions) = (logged.len(), 0);
        let mut odd = Vec::new();
        for subscriber in &self.subscribers {
            let heard = subscriber.heard.lock().unwrap();
            let again = heard.changes.windows(2).filter(|pair| pair[0].cursor >= pair[1].cursor).count();
            self.report.resumptions += heard.resumptions;
            self.report.doubled += again;
            self.report.lost += (logged.len() + again).saturating_sub(heard.changes.len());
            odd.extend(heard.odd.clone());
            if heard.changes != logged {
                odd.push(format!("{} of {} changes were seen", heard.changes.len(), logged.len()));
            }
        }
        let found: Vec<String> = differences.into_iter().chain(wrong).chain(odd).take(10).collect();
        assert!(found.is_empty(), "{}\n{}", self.report, found.join("\n"));
    }
}

/// What tells one commit of records from the next.
type Mark = (i64, Option<DateTime<Utc>>);

async fn committed(db: &Db) -> Mark {
    let marks = source_record::Entity::find().select_only();
    let marks = marks
        .column_as(source_record::Column::Uri.count(), "count")
        .column_as(source_record::Column::IngestedAt.max(), "newest");
    marks.into_tuple().one(db.read()).await.unwrap().unwrap()
}

/// Waits until it is so.
async fn until(within: Duration, what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < within, "it took longer than {within:?} until {what}");
        tokio::time::sleep(LOOK).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the test is to run is not a setting of the gateway")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number")))
}

/// One fault after the other: a few, or all of them again and again until the time is over.
async fn plan(world: &mut World, mut rng: Rng) {
    let Some(minutes) = number("GATEWAY_SOAK_MINUTES") else {
        let faults = [
            Fault::Stop(Kind::Postgres),
            Fault::Pause(Kind::Redis),
            Fault::Kill(1 + rng.usize(..2)),
            Fault::Restart(Kind::RabbitMq),
            Fault::Pause(Kind::Postgres),
            Fault::Restart(Kind::Redis),
            Fault::Pause(Kind::RabbitMq),
            Fault::Kill(0),
            Fault::Restart(Kind::Postgres),
            Fault::Kill(3 + rng.usize(..2)),
            Fault::Kill(5),
        ];
        for fault in faults {
            world.survive(fault, Duration::from_secs(1)).await;
        }
        return;
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(minutes) {
        let mut faults = Fault::all();
        rng.shuffle(&mut faults);
        for fault in faults {
            let length = Duration::from_millis(rng.u64(200..25_000));
            world.survive(fault, length).await;
            println!("{:>5} s  {fault}", begun.elapsed().as_secs());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_nothing_is_lost_and_nothing_doubled() {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(missing) => {
            assert!(number("GATEWAY_SOAK_MINUTES").is_none(), "{missing} must be installed");
            println!("skipped: {missing} is not installed");
            return;
        }
    };
    let seed = number("GATEWAY_SOAK_SEED").unwrap_or(1);
    let servers = Servers::start(&programs).await;
    let (mut world, rng) = World::start(servers, seed).await;
    let outcome = AssertUnwindSafe(plan(&mut world, rng)).catch_unwind().await;
    println!("{}", world.report);
    let World { servers, fleet, subscribers, .. } = world;
    let log = fleet.log();
    drop((fleet, subscribers));
    servers.discard().await;
    if let Err(panic) = outcome {
        println!("{log}");
        std::panic::resume_unwind(panic);
    }
}
