//! How fast records are taken in: a replay through the whole pipeline, the same file once more, and beside them the same
//! rows written by hand ([`crate::floor`]). The three take turns, each on a database of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use gateway::roles::replay;
use sea_orm::DbBackend;

use crate::{
    cost::{Cost, Meter},
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
