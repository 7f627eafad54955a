//! One event to thousands of subscribers: the gateway on SQLite, and beside it a bare broadcast server with the same socket
//! settings and the same frames. Some of the gateway's subscribers are signed in, each with a session of their own. Each server is a process of its own, this one holds all subscribers of both, and
//! the rounds alternate.

mod bare;
mod crowd;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use entities::sets::SourceType;
use gateway::{
    app::App,
    domain::{
        account::{self, SignedIn},
        session::{self, Kind},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::sleep,
};

pub(crate) use self::bare::serve as serve_bare;
use self::crowd::{Crowd, Door};
use crate::{
    cost::processor_time,
    support::{
        app::{TestApp, make_key},
        database,
        devnet::HTTP,
        process::Program,
        records::did,
    },
    table::{Table, median},
    watch::resident,
};

/// Events of a burst, which come in one request and are committed together.
const BURST: usize = 50;
/// Rounds whose medians are shown, of one event and of a burst each; one more before them is not.
const ROUNDS: usize = 9;
/// How long nothing happens before memory is looked at.
const IDLE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(2);
/// Sessions of one member, who may have a hundred.
const SESSIONS: usize = 50;

/// What an agenda would ask for; about a kilobyte.
const SELECTION: &str = "subscription { eventIngested { cursor operation eventId changedFields ingestedAt
    event { id slug name description startsAt endsAt status mode organizer { id handle }
        attendance { confirmedCount maybeCount cancelledCount } } } }";

/// A server with its subscribers.
struct Side {
    name: &'static str,
    child: Child,
    crowd: Crowd,
    /// Bytes of memory that each subscriber takes: before anything was told, and afterwards.
    idle: f64,
    /// Bytes in use before anybody came.
    empty: f64,
    one: Figures,
    burst: Figures,
}

#[derive(Default)]
struct Figures {
    /// Seconds until the last had it.
    last: Vec<f64>,
    /// Seconds until the first had it.
    first: Vec<f64>,
    /// Processor seconds a delivery.
    processor: Vec<f64>,
}

/// Measures, and prints what it found.
pub(crate) async fn run(subscribers: usize, signed_in: usize) -> Result<()> {
    let signed_in = signed_in.min(subscribers);
    println!(
        "\nFan-out to {subscribers} WebSockets that ask for the same, {signed_in} of them with a session's cookie; one event, \
        and a burst of {BURST}; medians of {ROUNDS} rounds"
    );
    let test = database::sqlite().await;
    let TestApp { app } = TestApp::open(&test).await;
    let key = make_key(&app, "bench", &[SourceType::Web], false).await;
    let cookies = cookies(&app, signed_in).await?;
    drop(app);
    let program = Program::over(&test.url).with("GATEWAY_GRAPHQL__MAX_SOCKETS", &(subscribers + 100).to_string());
    let (child, address) = program.serve_api().await;
    let port = port(&address)?;
    // Everything that is made at the first event is there before memory is looked at.
    tell_gateway(port, &key, 0, BURST).await?;
    let door = Door { port, path: "/graphql", subscription: Some(SELECTION), cookies: &cookies };
    let mut gateway = Side::open("the gateway", child, door, subscribers).await?;
    until_shared(port, subscribers).await?;
    tell_gateway(port, &key, 1, 1).await?;
    gateway.crowd.told(subscribers).await?;
    // The other server tells what this one told.
    let frame = gateway.crowd.sample().ok_or_else(|| anyhow!("nobody heard anything"))?;
    gateway.settle(subscribers).await?;
    let (child, port_of_bare) = start_bare().await?;
    let door = Door { port: port_of_bare, path: "/ws", subscription: None, cookies: &[] };
    let mut bare = Side::open("bare broadcast", child, door, subscribers).await?;
    bare.settle(subscribers).await?;
    for round in 0..=ROUNDS {
        for count in [1, BURST] {
            for side in [&mut gateway, &mut bare] {
                let told = async {
                    if side.name == "bare broadcast" {
                        tell_bare(port_of_bare, &frame, count).await
                    } else {
                        tell_gateway(port, &key, 2 + 2 * round + usize::from(count > 1), count).await
                    }
                };
                let pid = side.child.id().ok_or_else(|| anyhow!("{} has ended", side.name))?.to_string();
                let before = processor_time(&pid)?;
                side.crowd.expect(subscribers * count);
                let began = Instant::now();
                told.await?;
                let (first, last) = side.crowd.wait().await?;
                // What is written after the last frame belongs to it, too.
                sleep(Duration::from_millis(100)).await;
                let processor = processor_time(&pid)?.saturating_sub(before);
                if round > 0 {
                    let figures = if count == 1 { &mut side.one } else { &mut side.burst };
                    figures.first.push(first.saturating_duration_since(began).as_secs_f64());
                    figures.last.push(last.saturating_duration_since(began).as_secs_f64());
                    figures.processor.push(processor.as_secs_f64() / (subscribers * count) as f64);
                }
            }
        }
    }
    print(&gateway, &bare, &frame, subscribers).await?;
    for mut side in [gateway, bare] {
        side.child.kill().await?;
    }
    test.discard().await;
    Ok(())
}

impl Side {
    async fn open(name: &'static str, child: Child, door: Door<'_>, subscribers: usize) -> Result<Self> {
        sleep(IDLE).await;
        let empty = memory(&child)?;
        let crowd = Crowd::gather(door, subscribers).await?;
        Ok(Self { name, child, crowd, idle: 0.0, empty, one: Figures::default(), burst: Figures::default() })
    }

    async fn settle(&mut self, subscribers: usize) -> Result<()> {
        sleep(IDLE).await;
        self.idle = self.each(subscribers)?;
        Ok(())
    }

    fn each(&self, subscribers: usize) -> Result<f64> {
        Ok((memory(&self.child)? - self.empty) / subscribers as f64)
    }
}

async fn print(gateway: &Side, bare: &Side, frame: &str, subscribers: usize) -> Result<()> {
    sleep(IDLE).await;
    println!("A frame has {} bytes. Times begin with the request that brings the events.", frame.len());
    let mut table = Table::new(["", gateway.name, bare.name, "ratio", "aim"]);
    let mut row = |what: &str, ours: f64, theirs: f64, unit: &str, scale: f64, aim: &str| {
        let shown = |value: f64| format!("{:.1} {unit}", value * scale);
        table.row([what.into(), shown(ours), shown(theirs), format!("{:.2}", ours / theirs), aim.into()]);
    };
    for (what, ours, theirs) in [("one event", &gateway.one, &bare.one), ("burst", &gateway.burst, &bare.burst)] {
        let mut row = |name: &str, of: fn(&Figures) -> &Vec<f64>, unit, scale, aim| {
            row(&format!("{what}: {name}"), median(of(ours).clone()), median(of(theirs).clone()), unit, scale, aim);
        };
        row("until the first has it", |figures| &figures.first, "ms", 1e3, "");
        row("until the last has it", |figures| &figures.last, "ms", 1e3, "≤ 1.5");
        row("processor time a delivery", |figures| &figures.processor, "µs", 1e6, "≤ 1.5");
    }
    row("memory a subscriber, idle", gateway.idle, bare.idle, "KB", 1e-3, "≤ 12 KB");
    let after = [gateway.each(subscribers)?, bare.each(subscribers)?];
    row("memory a subscriber, after the bursts", after[0], after[1], "KB", 1e-3, "≤ 12 KB");
    table.print();
    Ok(())
}

/// Cookies of so many sessions, as browsers have them.
async fn cookies(app: &App, count: usize) -> Result<Vec<String>> {
    let mut cookies = Vec::with_capacity(count);
    for person in 0..count.div_ceil(SESSIONS) {
        let pds = "https://pds.example.com".parse()?;
        let signed_in = SignedIn { did: did(1, person), handle: None, pds, scopes: Vec::new() };
        let user = account::sign_in(app, &signed_in).await?;
        for _ in 0..SESSIONS.min(count - cookies.len()) {
            let opened = session::open(app, user.id, Kind::Cookie, None).await?;
            cookies.push(format!("session={}", opened.token));
        }
    }
    Ok(cookies)
}

fn memory(child: &Child) -> Result<f64> {
    resident(child.id().ok_or_else(|| anyhow!("the process has ended"))?)
}

fn port(address: &str) -> Result<u16> {
    Ok(address.rsplit(':').next().ok_or_else(|| anyhow!("no port in {address}"))?.parse()?)
}

/// Brings events to the gateway, each of which is changed by every round.
async fn tell_gateway(port: u16, key: &str, round: usize, count: usize) -> Result<()> {
    let item = |number: usize| {
        json!({
            "name": format!("Meetup {number}, {round}"), "description": "talks and coffee ".repeat(30),
            "startDate": "2027-03-01T18:00:00Z", "endDate": "2027-03-01T20:00:00Z", "type": "hybrid",
            "source": { "type": "web", "id": format!("{number}"), "url": format!("https://example.com/{number}") },
        })
    };
    let items = Value::Array((0..count).map(item).collect());
    let url = format!("http://127.0.0.1:{port}/api/integration/events:batch");
    let answer = HTTP.post(url).bearer_auth(key).json(&items).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success() && !text.contains("rejected"), "{status}: {text}");
    Ok(())
}

async fn tell_bare(port: u16, frame: &str, count: usize) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/tell");
    let answer = HTTP.post(url).body(vec![frame; count].join("\n")).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    Ok(())
}

/// Waits until all subscriptions share one run.
async fn until_shared(port: u16, subscribers: usize) -> Result<()> {
    let lines = [format!("gateway_graphql_subscriptions {subscribers}"), "gateway_graphql_shared_runs 1".to_owned()];
    let began = Instant::now();
    loop {
        let metrics = HTTP.get(format!("http://127.0.0.1:{port}/metrics")).send().await?.text().await?;
        if lines.iter().all(|line| metrics.lines().any(|found| found == line)) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "not all subscribe: {lines:?}");
        sleep(LOOK).await;
    }
}

/// This program again, as the other server.
async fn start_bare() -> Result<(Child, u16)> {
    let mut command = Command::new(Path::new("/proc/self/exe"));
    command.arg("bare").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let told = child.stdout.take().ok_or_else(|| anyhow!("nothing to read from"))?;
    let line = BufReader::new(told).lines().next_line().await?.ok_or_else(|| anyhow!("it does not listen"))?;
    Ok((child, line.trim().parse()?))
}
