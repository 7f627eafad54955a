//! The program at its start and at rest.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use gateway::roles::replay;
use reqwest::StatusCode;
use tokio::{process::Child, time::sleep};

use crate::{
    support::{
        app::TestApp,
        database::{self, TestDb},
        devnet::HTTP,
        process::Program,
        records,
    },
    table::{Table, median},
    watch::resident,
};

/// Starts of which the median is shown.
const STARTS: usize = 5;
/// How long nothing happens before memory is looked at.
const IDLE: Duration = Duration::from_secs(3);
/// Between two questions whether it is ready.
const LOOK: Duration = Duration::from_millis(2);
/// Far more than a start takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running program, killed when the value is dropped.
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) port: u16,
    /// From the start of the process to the first time that it was ready.
    pub(crate) took: Duration,
    child: Child,
}

impl Running {
    /// Starts every role on a free port and waits until it is ready.
    pub(crate) async fn start(program: &Program) -> Result<Self> {
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let ready = format!("http://127.0.0.1:{port}/health/ready");
        let began = Instant::now();
        let mut child = program.start(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
        loop {
            if HTTP.get(&ready).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Ok(Self { port, took: began.elapsed(), child });
            }
            if let Some(status) = child.try_wait()? {
                return Err(anyhow!("the program ended by itself: {status}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(anyhow!("the program is not ready within {PATIENCE:?}"));
            }
            sleep(LOOK).await;
        }
    }

    /// Memory in use after a while in which nothing happened, in MB.
    pub(crate) async fn memory_at_rest(&self) -> Result<f64> {
        sleep(IDLE).await;
        let pid = self.child.id().ok_or_else(|| anyhow!("the program has ended"))?;
        Ok(resident(pid)? / 1e6)
    }

    /// Ends it.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Starts the program on databases that hold records, and prints what it found.
pub(crate) async fn run(records: usize) -> Result<()> {
    println!(
        "\nStart and rest: no stream is followed, the database holds {records} records; median of {STARTS} starts"
    );
    let mut table = Table::new(["", "spawn to ready", "aim", "memory after 3 s at rest", "aim"]);
    let file = records::network(1, records - records / 4, records / 4).lines.join("\n");
    for (name, test) in [("SQLite", Some(database::sqlite().await)), ("PostgreSQL", database::postgres().await)] {
        let Some(test) = test else { continue };
        let outcome = measure(&test, &file).await;
        test.discard().await;
        let (took, memory) = outcome?;
        table.row([
            name.into(),
            format!("{:.0} ms", took * 1e3),
            "< 500 ms".into(),
            format!("{memory:.1} MB"),
            "< 60 MB".into(),
        ]);
    }
    table.print();
    Ok(())
}

async fn measure(test: &TestDb, file: &str) -> Result<(f64, f64)> {
    let TestApp { app } = TestApp::open(test).await;
    replay::run(&app, file.as_bytes(), |_| {}).await?;
    drop(app);
    let program = Program::over(&test.url);
    let mut took = Vec::new();
    let mut memory = 0.0;
    for start in 1..=STARTS {
        let running = Running::start(&program).await?;
        took.push(running.took.as_secs_f64());
        if start == STARTS {
            memory = running.memory_at_rest().await?;
        }
        running.kill().await?;
    }
    Ok((median(took), memory))
}
