//! How fast records are taken in: a replay through the whole pipeline, the same file once more, and beside them the same
//! rows written by hand ([`crate::floor`]). The three take turns, each on a database of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use gateway::{infra::db::Db, roles::replay};
use sea_orm::{
    DbBackend,
    sqlx::{Row as _, query},
};

use crate::{
    floor::Content,
    support::{
        app::TestApp,
        database::{self, TestDb},
        records,
    },
    table::{Table, median},
};

/// Which records are made up.
const SEED: u64 = 20_000;

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    elapsed: Duration,
    /// Processor time of this process.
    own: Duration,
    /// Processor time of the server's sessions, where they run on this machine; nothing for SQLite.
    server: Option<Duration>,
}

/// Measures a [`Cost`].
pub(crate) struct Meter<'a> {
    db: &'a Db,
    own: Duration,
    server: Option<Duration>,
}

impl<'a> Meter<'a> {
    pub(crate) async fn start(db: &'a Db) -> Result<Self> {
        Ok(Self { db, server: server_time(db).await?, own: processor_time("self")? })
    }

    pub(crate) async fn stop(self, elapsed: Duration) -> Result<Cost> {
        let own = processor_time("self")?.saturating_sub(self.own);
        let server = server_time(self.db).await?.zip(self.server).map(|(after, before)| after.saturating_sub(before));
        Ok(Cost { elapsed, own, server })
    }
}

/// Replays on each database there is, and prints what it found.
pub(crate) async fn run(records: usize, runs: usize) -> Result<()> {
    let rsvps = records * 27 / 100;
    let network = records::network(SEED, records - rsvps, rsvps);
    let file = network.lines.join("\n");
    println!(
        "\nReplay of {records} records ({} events, {rsvps} RSVPs; {:.1} KB each), medians of {runs}",
        records - rsvps,
        per_record(file.len() as f64 / 1_000.0, records),
    );
    on_database(DbBackend::Sqlite, &file, records, runs).await?;
    on_database(DbBackend::Postgres, &file, records, runs).await
}

async fn on_database(backend: DbBackend, file: &str, records: usize, runs: usize) -> Result<()> {
    let (mut by_hand, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut batches = 0;
    for _ in 0..runs {
        let Some(test) = fresh(backend).await else {
            println!("\nPostgreSQL: left out, TEST_DATABASE_URL names no server");
            return Ok(());
        };
        let outcome = replayed(&test, file, records).await;
        test.discard().await;
        let (content, costs) = outcome?;
        first.push(costs[0]);
        again.push(costs[1]);
        batches = content.batches();
        let test = fresh(backend).await.ok_or_else(|| anyhow!("the server has gone"))?;
        let outcome = written(&test, &content).await;
        test.discard().await;
        by_hand.push(outcome?);
    }
    let name = if backend == DbBackend::Postgres { "PostgreSQL" } else { "SQLite" };
    let mut table = Table::new([name, "records/s", "ratio", "aim", "CPU a record", "ratio", "of it the server's"]);
    let [by_hand, first, again] = [by_hand, first, again].map(|costs| Line::of(&costs, records));
    table.row(by_hand.shown(&format!("the same rows by hand, {batches} batches"), None, ""));
    table.row(first.shown("replay", Some(&by_hand), "≥ 0.5 of by hand"));
    table.row(again.shown("the same file again", Some(&first), "≥ 2 of the first"));
    table.print();
    Ok(())
}

/// Medians, a record.
struct Line {
    rate: f64,
    cpu: f64,
    server: Option<f64>,
}

impl Line {
    fn of(costs: &[Cost], records: usize) -> Self {
        let of = |time: &dyn Fn(&Cost) -> f64| median(costs.iter().map(time).collect());
        let micros = |time: Duration| per_record(time.as_secs_f64() * 1e6, records);
        Self {
            rate: of(&|cost| 1e6 / micros(cost.elapsed)),
            cpu: of(&|cost| micros(cost.own + cost.server.unwrap_or_default())),
            server: costs
                .iter()
                .all(|cost| cost.server.is_some())
                .then(|| of(&|cost| micros(cost.server.unwrap_or_default()))),
        }
    }

    fn shown(&self, name: &str, beside: Option<&Self>, aim: &str) -> [String; 7] {
        let ratio = |of: f64, to: Option<f64>| to.map_or_else(String::new, |to| format!("{:.2}", of / to));
        [
            name.to_owned(),
            format!("{:.0}", self.rate),
            ratio(self.rate, beside.map(|beside| beside.rate)),
            aim.to_owned(),
            format!("{:.0} µs", self.cpu),
            ratio(self.cpu, beside.map(|beside| beside.cpu)),
            self.server.map_or_else(|| "unknown or none".to_owned(), |server| format!("{server:.0} µs")),
        ]
    }
}

async fn fresh(backend: DbBackend) -> Option<TestDb> {
    if backend == DbBackend::Postgres { database::postgres().await } else { Some(database::sqlite().await) }
}

/// Takes the file through the pipeline, twice; what is in the database then, and what each time took.
async fn replayed(test: &TestDb, file: &str, records: usize) -> Result<(Content, [Cost; 2])> {
    let TestApp { app } = TestApp::open(test).await;
    let meter = Meter::start(&app.db).await?;
    let began = Instant::now();
    let summary = replay::run(&app, file.as_bytes(), |_| {}).await?;
    let first = meter.stop(began.elapsed()).await?;
    ensure!(summary.applied == records as u64, "a replay did not apply every record: {summary}");
    let meter = Meter::start(&app.db).await?;
    let began = Instant::now();
    let summary = replay::run(&app, file.as_bytes(), |_| {}).await?;
    let again = meter.stop(began.elapsed()).await?;
    ensure!(summary.unchanged == records as u64, "a second replay changed something: {summary}");
    Ok((Content::read(&test.db).await?, [first, again]))
}

/// Writes the same by hand, and makes sure that it is the same.
async fn written(test: &TestDb, content: &Content) -> Result<Cost> {
    let cost = content.write(&test.db).await?;
    ensure!(Content::read(&test.db).await? == *content, "by hand something else was written");
    Ok(cost)
}

fn per_record(sum: f64, records: usize) -> f64 {
    sum / records as f64
}

/// Processor time of the database's sessions, ended ones left out. The server may run elsewhere: then nobody knows.
async fn server_time(db: &Db) -> Result<Option<Duration>> {
    if db.backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
    let mut sum = Duration::ZERO;
    for row in query(sql).fetch_all(db.read().get_postgres_connection_pool()).await? {
        let pid: i32 = row.try_get(0)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if !name.starts_with("postgres") {
            return Ok(None);
        }
        sum += processor_time(&pid.to_string())?;
    }
    Ok(Some(sum))
}

/// Processor time of a process, all its threads together, as Linux tells it: in hundredths of a second.
fn processor_time(pid: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may hold anything. Behind it, `utime` and `stime` are fields 12 and 13.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow!("/proc tells nothing of {pid}"))?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
