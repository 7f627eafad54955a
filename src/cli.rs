//! Arguments, and what each command does with them.

use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use gateway::{
    api::graphql,
    app::{self, App},
    config::{self, Config},
    domain::ingest::{Outcome, failure},
    error::{Error, Result},
    infra::clock::Clock,
    roles::{Role, replay, serve},
    telemetry,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, BufReader};
use toml::{Table, Value};

/// GraphQL gateway between OpenMeet and the AT Protocol network.
///
/// Without a command it serves: it reads calendar events and RSVPs of the network, keeps them in its own database, and
/// offers them as one GraphQL schema with live subscriptions. It needs no other server: by default everything is kept in
/// one SQLite file in the working directory.
///
/// Settings come from the embedded defaults, then ./gateway.toml (or --config, or $GATEWAY_CONFIG), then the environment
/// ($DATABASE_URL, and $GATEWAY_SECTION__KEY for every other key), then flags. `openmeet-gateway config` prints every
/// key with its explanation.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Configuration file, TOML
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Serve,
    /// Bring the database's schema up to date and end
    Migrate,
    /// Print the GraphQL schema as SDL
    Schema,
    /// Print the default configuration: every key, explained
    Config,
    /// Take recorded messages through the pipeline
    ///
    /// The file holds messages in the form of Jetstream v1, one JSON object a line. Messages that are known already change
    /// nothing, so a replay that was cut off is simply started again. Ends with a summary: how many messages were read,
    /// applied, unchanged, and parked by code. Exits with 0 also when messages were parked: `failures list` shows them.
    Replay {
        /// File to read, - for standard input
        file: PathBuf,
    },
    /// Show, retry or discard messages that could not be applied
    #[command(subcommand)]
    Failures(Failures),
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// serve: which parts run in this process, by default all: api, firehose, process, sweep
    #[arg(long, global = true, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<Role>,
    /// serve: address to listen on [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Failures {
    /// Print parked messages, one JSON object a line
    List(Chosen),
    /// Take parked messages through the pipeline again
    Retry(Chosen),
    /// Give parked messages up for good
    Discard(Chosen),
}

#[derive(Debug, Args)]
struct Chosen {
    /// Only these, by id
    ids: Vec<i64>,
    /// Only with this code, such as EVENT_NAME_MISSING
    #[arg(long)]
    code: Option<String>,
    /// Only of this repository
    #[arg(long)]
    did: Option<String>,
    /// At most so many, the oldest first [default: all]
    #[arg(long)]
    limit: Option<u64>,
    /// Every parked message: retry and discard ask for this when nothing else chooses
    #[arg(long)]
    all: bool,
}

/// Carries out a command.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { config: file, command, serve } = arguments;
    let configured = |serve: &Serve| config::from_process(file.as_deref(), flags_of(serve));
    let command = command.unwrap_or(Command::Serve);
    if !matches!(command, Command::Serve) && (serve.listen.is_some() || !serve.roles.is_empty()) {
        return Err(Error::invalid("--roles and --listen", "FLAG_MISPLACED", "only serve takes them"));
    }
    match command {
        Command::Serve => {
            let roles: BTreeSet<Role> =
                if serve.roles.is_empty() { Role::ALL.into() } else { serve.roles.iter().copied().collect() };
            let config = configured(&serve)?;
            telemetry::logs(&config.log)?;
            let metrics = telemetry::metrics()?;
            let app = App::open(config, Clock::system()).await?;
            serve::run(app, &roles, metrics).await?;
        }
        Command::Migrate => {
            let config = configured(&Serve::default())?;
            telemetry::logs(&config.log)?;
            app::connect(&config).await?.migrate().await?;
        }
        Command::Schema => print(&graphql::sdl())?,
        Command::Config => print(config::DEFAULT)?,
        Command::Replay { file } => {
            let app = open(configured(&Serve::default())?).await?;
            print(&format!("{}\n", read(&app, &file).await?))?;
        }
        Command::Failures(command) => return failures(configured(&Serve::default())?, command).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn flags_of(serve: &Serve) -> Table {
    let listen = serve.listen.map(|listen| Table::from_iter([("listen".to_owned(), Value::from(listen.to_string()))]));
    listen.map(|listen| Table::from_iter([("http".to_owned(), Value::from(listen))])).unwrap_or_default()
}

async fn open(config: Config) -> Result<App> {
    telemetry::logs(&config.log)?;
    App::open(config, Clock::system()).await
}

async fn read(app: &App, file: &PathBuf) -> Result<replay::Summary> {
    let (input, bytes): (Box<dyn AsyncBufRead + Unpin>, u64) = if file.as_os_str() == "-" {
        (Box::new(BufReader::new(tokio::io::stdin())), 0)
    } else {
        let opened = tokio::fs::File::open(file).await.map_err(|error| unreadable(file, &error))?;
        let bytes = opened.metadata().await.map_err(|error| unreadable(file, &error))?.len();
        (Box::new(BufReader::with_capacity(1 << 20, opened)), bytes)
    };
    let bar = match (std::io::stderr().is_terminal(), bytes) {
        (false, _) => ProgressBar::hidden(),
        (true, 0) => ProgressBar::new_spinner(),
        (true, _) => ProgressBar::new(bytes),
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let summary = replay::run(app, input, |bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    summary
}

fn unreadable(file: &std::path::Path, error: &std::io::Error) -> Error {
    Error::invalid("file", "FILE_UNREADABLE", format!("{}: {error}", file.display()))
}

async fn failures(config: Config, command: Failures) -> Result<ExitCode> {
    let (Failures::List(chosen) | Failures::Retry(chosen) | Failures::Discard(chosen)) = &command;
    let selection = failure::Selection { ids: chosen.ids.clone(), code: chosen.code.clone(), did: chosen.did.clone() };
    let is_choice = chosen.all || !chosen.ids.is_empty() || chosen.code.is_some() || chosen.did.is_some();
    if !is_choice && !matches!(command, Failures::List(_)) {
        return Err(Error::invalid("choice", "NOTHING_CHOSEN", "name ids, --code, --did, or --all"));
    }
    let limit = chosen.limit.unwrap_or(i64::MAX.unsigned_abs());
    let app = open(config).await?;
    let parked = failure::list(&app, &selection, limit).await?;
    let mut still_parked = 0_usize;
    for row in &parked {
        match command {
            Failures::List(_) => print(&format!("{}\n", line(row)))?,
            Failures::Discard(_) => failure::discard(&app, row).await?,
            Failures::Retry(_) => {
                if let Outcome::Parked(parked) = failure::retry(&app, row).await? {
                    still_parked += 1;
                    eprintln!("{} {} {}", row.id, parked.code, parked.why);
                }
            }
        }
    }
    match command {
        Failures::List(_) => {}
        Failures::Discard(_) => print(&format!("discarded {}\n", parked.len()))?,
        Failures::Retry(_) => {
            print(&format!("resolved {}\nparked {still_parked}\n", parked.len() - still_parked))?;
        }
    }
    Ok(if still_parked > 0 { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn line(row: &failure::Model) -> serde_json::Value {
    serde_json::json!({
        "id": row.id,
        "stage": row.stage,
        "code": row.code,
        "reason": row.reason,
        "did": row.did,
        "uri": row.uri,
        "attempts": row.attempts,
        "firstFailedAt": row.first_failed_at,
        "lastFailedAt": row.last_failed_at,
        "payload": row.payload,
    })
}

/// Standard output belongs to what was asked for. A reader that has gone, as in `… | head`, is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::bug(error)),
        _ => Ok(()),
    }
}
