//! How fast a long stream is taken in by PostgreSQL: directly, and by separate processes through RabbitMQ, with one processor
//! and with two. Beside it the rows that are there in the end, written by hand ([`crate::floor`]), once before and once after,
//! since machines get slower and faster in such a time: what all are compared with is the mean of the two.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::TcpListener as Ports,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use entities::event;
use futures_util::{SinkExt, StreamExt};
use gateway::infra::queue::BrokerSettings;
use sea_orm::{EntityTrait, PaginatorTrait};
use tokio::{net::TcpListener, process::Child, task::AbortHandle, time::sleep};
use tokio_tungstenite::{accept_async, tungstenite::Message};
use url::Url;
use uuid::Uuid;

use crate::{
    broker::{TestBroker, url},
    cost::{Cost, server},
    floor::Content,
    mix::{self, Mix},
    support::{
        database::{self, TestDb},
        devnet::HTTP,
        process::Program,
    },
    table::Table,
    watch::{Group, Usage, Watch},
};

/// Which records are made up.
const SEED: u64 = 1_000_000;
/// Between two looks how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time in which nothing gets on.
const PATIENCE: Duration = Duration::from_mins(2);

/// What one way took.
struct Outcome {
    elapsed: Duration,
    /// Of the gateway's processes, in the order of their start.
    gateway: Vec<(&'static str, Usage)>,
    postgres: Usage,
    broker: Option<Usage>,
    /// Memory of the gateway's processes when a quarter of the messages was taken in.
    early: f64,
}

/// Takes a stream of so many messages in each way, and prints what it found.
pub(crate) async fn run(messages: usize) -> Result<()> {
    let mix = mix::write(SEED, messages)?;
    let Some(test) = database::postgres().await else {
        println!("\nThe long stream: left out, TEST_DATABASE_URL names no PostgreSQL server");
        return Ok(());
    };
    println!("\nA stream of {messages} messages: new events and answers, edits, deletions, and what comes again late");
    println!("{}", server(&test.db).await?);
    let outcome = directly(&test, &mix).await;
    let content = Content::read(&test.db).await;
    test.discard().await;
    let (direct, content) = (outcome?, content?);
    let rows = content.rows("source_record");
    let before = on_fresh(async |test| content.write(&test.db).await).await?;
    let copied = on_fresh(async |test| content.copy(&test.db).await).await?;
    let mut memories = Vec::new();
    let mut through = Vec::new();
    for (name, processors) in [("RabbitMQ, one processor", 1), ("RabbitMQ, two processors", 2)] {
        through.push((name, on_fresh(async |test| through_broker(test, &mix, processors).await).await?));
    }
    let after = on_fresh(async |test| content.write(&test.db).await).await?;
    drop(content);
    let mut table =
        Table::new(["PostgreSQL", "records/s", "ratio", "aim", "CPU a record", "PostgreSQL's", "RabbitMQ's", "ours"]);
    let by_hand = rate(2 * rows, before.elapsed + after.elapsed);
    let floors = [("the rows in the end by hand, before", &before), ("by hand, after", &after), ("by COPY", &copied)];
    for (name, cost) in floors {
        table.row(floor(name, cost, rows, by_hand));
    }
    table.row(direct.shown("replay of the stream", messages, by_hand, "≥ 0.8, ≤ 90 µs"));
    memories.push(("replay", direct));
    for (name, outcome) in through {
        table.row(outcome.shown(name, messages, by_hand, "≥ 0.5"));
        memories.push((name, outcome));
    }
    table.print();
    println!("\n{rows} records are in the ledger in the end; by hand counts these, the others count messages.");
    for (name, outcome) in memories {
        println!("{name}: {}", outcome.processes(messages));
    }
    Ok(())
}

async fn on_fresh<T>(work: impl AsyncFn(&TestDb) -> Result<T>) -> Result<T> {
    let test = database::postgres().await.ok_or_else(|| anyhow!("the server has gone"))?;
    let outcome = work(&test).await;
    test.discard().await;
    outcome
}

/// The command `replay`, in a process of its own.
async fn directly(test: &TestDb, mix: &Mix) -> Result<Outcome> {
    let program = Program::over(&test.url);
    let began = Instant::now();
    let path = mix.file.path().to_str().ok_or_else(|| anyhow!("no path in UTF-8"))?;
    let child = program.command(&["replay", path]).spawn()?;
    let watch = Watch::start([Group::Pid(pid(&child)?), Group::Sessions(name(test)?)]);
    let mut early = 0.0;
    let ended = child.wait_with_output();
    tokio::pin!(ended);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = sleep(LOOK) => {
                // Where it is, only its own progress knows; a quarter of the time will do.
                if early == 0.0 && began.elapsed() > Duration::from_secs(mix.messages as u64 / 40_000) {
                    early = watch.usage().first().map_or(0.0, |usage| usage.memory_now);
                }
            }
        }
    };
    let elapsed = began.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the replay failed: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains(&format!("read {}\n", mix.messages)) && said.contains("parked 0"), "it said: {said}");
    verify(test, mix).await?;
    let mut usage = watch.usage().into_iter();
    let (own, postgres) = (usage.next().unwrap_or_default(), usage.next().unwrap_or_default());
    Ok(Outcome { elapsed, gateway: vec![("replay", own)], postgres, broker: None, early })
}

/// A stream → `firehose` → RabbitMQ → some `process`, each in a process of its own.
async fn through_broker(test: &TestDb, mix: &Mix, processors: usize) -> Result<Outcome> {
    let prefix = format!("gw.bench.{}", Uuid::now_v7().simple());
    let broker =
        TestBroker { settings: BrokerSettings { url: url(), prefix: prefix.clone(), ..BrokerSettings::default() } };
    let stream = Stream::serve(mix.file.path().to_owned()).await?;
    let program = Program::over(&test.url).with("AMQP_URL", &url()).with("GATEWAY_QUEUE__PREFIX", &prefix);
    let program = program.with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address));
    let mut children = Vec::new();
    for _ in 0..processors {
        children.push(Process::start(&program, "process").await?);
    }
    let outcome = followed(test, mix, &program, children).await;
    broker.discard().await;
    outcome
}

async fn followed(test: &TestDb, mix: &Mix, program: &Program, processors: Vec<Process>) -> Result<Outcome> {
    let began = Instant::now();
    let firehose = Process::start(program, "firehose").await?;
    let ours: Vec<&Process> = processors.iter().chain([&firehose]).collect();
    let groups = ours.iter().map(|process| Group::Pid(process.pid));
    let watch = Watch::start(groups.chain([Group::Sessions(name(test)?), Group::Program("beam.smp")]));
    let (mut early, mut done, mut moved) = (0.0, 0, Instant::now());
    while done < mix.messages {
        sleep(LOOK).await;
        let mut now = 0;
        for processor in &processors {
            now += processor.taken_in().await?;
        }
        if now > done {
            (done, moved) = (now, Instant::now());
        }
        ensure!(moved.elapsed() < PATIENCE, "nothing gets on after {done} messages");
        if early == 0.0 && done * 4 > mix.messages {
            early = watch.usage().iter().take(ours.len()).map(|usage| usage.memory_now).sum();
        }
    }
    let elapsed = began.elapsed();
    let usage = watch.usage();
    verify(test, mix).await?;
    let (gateway, servers) = usage.split_at(ours.len());
    Ok(Outcome {
        elapsed,
        gateway: ours.iter().zip(gateway).map(|(process, usage)| (process.role, *usage)).collect(),
        postgres: servers.first().copied().unwrap_or_default(),
        broker: servers.get(1).copied(),
        early,
    })
}

/// All is there, whatever came again.
async fn verify(test: &TestDb, mix: &Mix) -> Result<()> {
    let events = event::Entity::find().count(test.db.read()).await?;
    ensure!(events == mix.events, "{events} events are there instead of {}", mix.events);
    Ok(())
}

/// Name of the database.
fn name(test: &TestDb) -> Result<String> {
    Ok(test.url.parse::<Url>()?.path().trim_start_matches('/').to_owned())
}

fn pid(child: &Child) -> Result<u32> {
    child.id().ok_or_else(|| anyhow!("the program has ended"))
}

/// One of the gateway's processes, killed when the value is dropped.
struct Process {
    role: &'static str,
    pid: u32,
    port: u16,
    _child: Child,
}

impl Process {
    /// Starts it and waits until it answers.
    async fn start(program: &Program, role: &'static str) -> Result<Self> {
        // Free a moment ago.
        let port = Ports::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = program.start(&["serve", "--roles", role, "--listen", &format!("127.0.0.1:{port}")]);
        let process = Self { role, pid: pid(&child)?, port, _child: child };
        let began = Instant::now();
        while process.taken_in().await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "{role} does not answer");
            sleep(LOOK).await;
        }
        Ok(process)
    }

    /// Messages that went through its pipeline.
    async fn taken_in(&self) -> Result<usize> {
        let text = HTTP.get(format!("http://127.0.0.1:{}/metrics", self.port)).send().await?.text().await?;
        let counts = text.lines().filter(|line| line.starts_with("gateway_ingest_messages_total{"));
        counts.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<usize>()?)).sum()
    }
}

/// A Jetstream that sends a file to everybody who comes.
struct Stream {
    address: std::net::SocketAddr,
    task: AbortHandle,
}

impl Stream {
    async fn serve(path: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let path = path.clone();
                tokio::spawn(async move {
                    let (mut sender, mut reader) = accept_async(socket).await?.split();
                    // Until the end: whoever goes earlier is not measured.
                    send(&path, &mut sender).await?;
                    while reader.next().await.is_some_and(|said| said.is_ok()) {}
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }
}

async fn send(
    path: &Path,
    sender: &mut (impl futures_util::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin),
) -> Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        sender.feed(Message::text(line?)).await?;
    }
    Ok(sender.flush().await?)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rate(records: usize, elapsed: Duration) -> f64 {
    records as f64 / elapsed.as_secs_f64()
}

fn micros(time: Duration, records: usize) -> f64 {
    time.as_secs_f64() * 1e6 / records as f64
}

fn floor(name: &str, cost: &Cost, rows: usize, by_hand: f64) -> [String; 8] {
    let shown = |time: Duration| format!("{:.0} µs", micros(time, rows));
    let rate = rate(rows, cost.elapsed);
    let server = cost.server.unwrap_or_default();
    let ratio = format!("{:.2}", rate / by_hand);
    let none = String::new;
    [name.into(), format!("{rate:.0}"), ratio, none(), shown(cost.own + server), shown(server), none(), shown(cost.own)]
}

impl Outcome {
    fn shown(&self, name: &str, messages: usize, by_hand: f64, aim: &str) -> [String; 8] {
        let shown = |time: Duration| format!("{:.0} µs", micros(time, messages));
        let ours: Duration = self.gateway.iter().map(|(_, usage)| usage.processor).sum();
        let broker = self.broker.map(|usage| usage.processor);
        let rate = rate(messages, self.elapsed);
        [
            name.into(),
            format!("{rate:.0}"),
            format!("{:.2}", rate / by_hand),
            aim.into(),
            shown(ours + self.postgres.processor + broker.unwrap_or_default()),
            shown(self.postgres.processor),
            broker.map_or_else(String::new, shown),
            shown(ours),
        ]
    }

    /// A line about each of the gateway's processes.
    fn processes(&self, messages: usize) -> String {
        let megabytes = |bytes: f64| format!("{:.0} MB", bytes / 1e6);
        let each = self.gateway.iter().map(|(role, usage)| {
            let (processor, memory) = (micros(usage.processor, messages), megabytes(usage.memory));
            format!("{role} {processor:.0} µs, {memory} at most")
        });
        let late: f64 = self.gateway.iter().map(|(_, usage)| usage.memory_now).sum();
        let each = each.collect::<Vec<_>>().join("; ");
        format!("{each}; together {} after a quarter, {} in the end", megabytes(self.early), megabytes(late))
    }
}
