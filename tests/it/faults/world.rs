//! Everything that runs, and what befalls it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode};
use chrono::{DateTime, Utc};
use entities::source_record;
use gateway::infra::db::{Db, DbSettings};
use sea_orm::{ColumnTrait, EntityTrait, QuerySelect};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{
    Fault, LOOK, PATIENCE, SOON,
    broker::Watch,
    fleet::{Fleet, Role},
    recovery::Since,
    report::Report,
    servers::{Kind, Servers},
    source::Source,
    subscriber::Subscriber,
};
use crate::{
    oracle::model::State,
    support::{
        jetstream::{self, Jetstream},
        process::Program,
    },
};

/// Histories between two looks at the whole, of some forty messages each.
const HISTORIES: usize = 30;
const SUBSCRIBERS: u64 = 4;

/// Everything that runs.
pub(super) struct World {
    pub(super) servers: Servers,
    pub(super) fleet: Fleet,
    pub(super) broker: Watch,
    stream: Jetstream,
    /// Answers whoever is asked for that there is nobody of that name.
    directory: AbortHandle,
    source: Source,
    pub(super) subscribers: Vec<Subscriber>,
    /// What all that was sent means.
    pub(super) expected: State,
    /// Records that cannot be read, of all that was sent: AT-URI and revision.
    pub(super) unreadable: BTreeSet<(String, String)>,
    pub(super) report: Report,
}

impl World {
    pub(super) async fn start(mut servers: Servers, seed: u64) -> Self {
        let stream = jetstream::serve(Vec::new()).await;
        let (url, directory) = empty_directory().await;
        let program = Program::over(&servers.look_at(Kind::Postgres).url())
            .with("AMQP_URL", &servers.look_at(Kind::RabbitMq).url())
            .with("REDIS_URL", &servers.look_at(Kind::Redis).url())
            .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
            .with("GATEWAY_STREAMS__START", "oldest")
            .with("GATEWAY_NETWORK__PLC_URL", &url)
            // Small ones are in the middle of more.
            .with("GATEWAY_INGEST__BATCH_SIZE", "50");
        let fleet = Fleet::start(program).await;
        let subscribers = (0..SUBSCRIBERS).map(|number| Subscriber::start(fleet.addresses(), seed ^ number)).collect();
        let broker = Watch::over(servers.look_at(Kind::RabbitMq).url());
        servers.of(Kind::Postgres).answering().await;
        Self {
            servers,
            fleet,
            broker,
            stream,
            directory,
            source: Source::new(seed),
            subscribers,
            expected: State::default(),
            unreadable: BTreeSet::new(),
            report: Report { seed, ..Report::default() },
        }
    }

    /// Connections that know of no fault.
    async fn database(&self) -> Db {
        let url = self.servers.look_at(Kind::Postgres).url();
        Db::connect(&DbSettings { url, max_connections: 4 }).await.unwrap()
    }

    fn tell(&mut self, lines: Vec<String>) {
        self.report.lines += lines.len();
        self.stream.tell(lines);
    }

    /// Records come in, and something happens meanwhile; in the end all is as it should be.
    pub(super) async fn survive(&mut self, fault: Fault, length: Duration) {
        let mut round = self.source.round(HISTORIES);
        let [before, meanwhile, after] = std::mem::take(&mut round.parts);
        let db = self.database().await;
        let mark = committed(&db).await;
        self.tell(before);
        until(PATIENCE, "something is committed", async || committed(&db).await != mark).await;
        self.inflict(fault).await;
        if fault.is_fatal() {
            self.tell(meanwhile);
        } else {
            // Nobody has to wait for who is not needed.
            let mark = committed(&db).await;
            self.tell(meanwhile);
            until(SOON, "something is committed without it", async || committed(&db).await != mark).await;
        }
        self.mend(fault, length).await;
        let since = Since::now(&self.subscribers);
        db.close().await;
        let db = self.database().await;
        self.tell(after);
        let took = self.goes_on(&db, &round, fault, &since).await;
        self.report.count(fault.to_string(), took);
        self.report.messages += round.messages;
        self.expected.extend(round.expected);
        self.unreadable.extend(round.unreadable);
        self.settle(&db).await;
        self.fleet.verify();
        db.close().await;
    }

    async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Stop(kind) => self.servers.of(kind).stop().await,
            Fault::Restart(kind) => self.servers.of(kind).crash().await,
            Fault::Pause(kind) => self.servers.of(kind).pause().await,
            Fault::Kill(number) => self.fleet.kill(number).await,
        }
    }

    /// Returns as soon as what was away is there again.
    async fn mend(&mut self, fault: Fault, length: Duration) {
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
    }

    /// The processors share the work among each other again, which they need not do at once.
    pub(super) async fn share(&self) {
        until(PATIENCE, "all processors are counted", async || {
            self.broker.miscounted(Fleet::count(Role::Process)).await.is_empty()
        })
        .await;
    }

    /// Asks all processes to end; then nobody holds a message any more, and none is left.
    pub(super) async fn end(self) -> (Servers, Report) {
        let Self { servers, fleet, broker, directory, report, .. } = self;
        fleet.end().await;
        until(PATIENCE, "nobody consumes any more", async || broker.miscounted(0).await.is_empty()).await;
        let left = broker.left().await;
        assert!(left.is_empty(), "{}", left.join("\n"));
        directory.abort();
        (servers, report)
    }
}

impl Fault {
    /// Whether nothing is committed while it lasts.
    fn is_fatal(self) -> bool {
        match self {
            Self::Stop(kind) | Self::Restart(kind) | Self::Pause(kind) => kind != Kind::Redis,
            // Of each there is another one.
            Self::Kill(_) => false,
        }
    }
}

/// A directory of identities that knows nobody.
async fn empty_directory() -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let nobody = Router::new().fallback(async || StatusCode::NOT_FOUND);
    let serving = tokio::spawn(async move { axum::serve(listener, nobody).await.unwrap() });
    (url, serving.abort_handle())
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
