//! Arguments, and what each command does with them.

mod failures;
mod health;
mod keys;
mod roles;
mod tenants;

use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use gateway::{
    api::graphql,
    app::{self, App},
    config::{self, Config},
    error::{Error, Result},
    infra::{atproto::oauth::Keyset, clock::Clock, db::Db, seal::Seal},
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
    /// Ask the gateway that runs here whether it is ready; exits with 1 when it is not
    Health,
    /// Take recorded messages through the pipeline
    ///
    /// The file holds messages in the form of Jetstream v1, one JSON object a line. Messages that are known already change
    /// nothing, so a replay that was cut off is simply started again. Ends with a summary: how many messages were read,
    /// applied, unchanged, and parked by code. Exits with 0 also when messages were parked: `failures list` shows them.
    Replay {
        /// File to read, - for standard input
        file: PathBuf,
    },
    /// Print a new key by which PDSes know the gateway, as a JWK set: the value of oauth.keys, or the file that it names
    OauthKey,
    /// Print a new key that seals what is kept of logins: a value of secrets.keys
    SecretKey,
    /// Show, count, retry or discard messages that could not be applied, dead letters of the queues among them
    #[command(subcommand)]
    Failures(failures::Failures),
    /// Make, list and revoke the keys of programs that bring events and answers, and of administrators
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Make and list tenants
    #[command(subcommand)]
    Tenants(tenants::Tenants),
    /// Grant, revoke and list the right to administer a tenant
    #[command(subcommand)]
    Roles(roles::Roles),
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// serve: which parts run in this process, separated by commas [default: all]
    #[arg(long, global = true, value_name = "ROLES", value_delimiter = ',', value_parser = role())]
    roles: Vec<Role>,
    /// serve: address to listen on [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
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
            let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            let traces = telemetry::logs_and_traces(&config.log, &config.telemetry, &names.join(","))?;
            let metrics = telemetry::metrics()?;
            serve::await_tables(&config).await?;
            let app = App::open(config, Clock::system()).await?;
            let db = app.db.clone();
            let served = serve::run(app, &roles, metrics).await;
            close(&db).await;
            traces.end().await;
            served?;
        }
        Command::Migrate => {
            let config = configured(&Serve::default())?;
            telemetry::logs(&config.log)?;
            let db = app::connect(&config).await?;
            let migrated = db.migrate().await;
            close(&db).await;
            migrated?;
        }
        Command::Schema => print(&graphql::sdl())?,
        Command::Config => print(config::DEFAULT)?,
        Command::OauthKey => print(&format!("{}\n", Keyset::generate()?))?,
        Command::SecretKey => print(&format!("{}\n", Seal::generate()?))?,
        Command::Health => health::ask(configured(&Serve::default())?.http.listen).await?,
        Command::Replay { file } => {
            let config = configured(&Serve::default())?;
            // Before the database is touched: a name that was mistyped changes nothing.
            let input = Input::open(&file).await?;
            let app = open(config).await?;
            let summary = read(&app, input).await;
            close(&app.db).await;
            print(&format!("{}\n", summary?))?;
        }
        Command::Failures(command) => {
            // Before the database is touched: what makes no sense changes nothing.
            command.check()?;
            let app = open(configured(&Serve::default())?).await?;
            let outcome = failures::act(&app, command).await;
            close(&app.db).await;
            return outcome;
        }
        Command::Keys(command) => {
            let app = open(configured(&Serve::default())?).await?;
            let outcome = keys::act(&app, command).await;
            close(&app.db).await;
            outcome?;
        }
        Command::Tenants(command) => {
            let app = open(configured(&Serve::default())?).await?;
            let outcome = tenants::act(&app, command).await;
            close(&app.db).await;
            outcome?;
        }
        Command::Roles(command) => {
            let app = open(configured(&Serve::default())?).await?;
            let outcome = roles::act(&app, command).await;
            close(&app.db).await;
            outcome?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A parser that knows the names, and so the nearest one.
fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|name| name.parse::<Role>())
}

fn flags_of(serve: &Serve) -> Table {
    let listen = serve.listen.map(|listen| Table::from_iter([("listen".to_owned(), Value::from(listen.to_string()))]));
    listen.map(|listen| Table::from_iter([("http".to_owned(), Value::from(listen))])).unwrap_or_default()
}

async fn open(config: Config) -> Result<App> {
    telemetry::logs(&config.log)?;
    App::open(config, Clock::system()).await
}

/// Ends the connections, so that a SQLite file stands alone. What holds one for longer is cut off with the process.
async fn close(db: &Db) {
    const PATIENCE: Duration = Duration::from_secs(5);
    if tokio::time::timeout(PATIENCE, db.close()).await.is_err() {
        tracing::warn!("the database is still in use; leaving without closing it");
    }
}

/// What a replay reads.
struct Input {
    lines: Box<dyn AsyncBufRead + Unpin>,
    /// Nought when nobody knows.
    bytes: u64,
}

impl Input {
    async fn open(file: &Path) -> Result<Self> {
        if file.as_os_str() == "-" {
            return Ok(Self { lines: Box::new(BufReader::new(tokio::io::stdin())), bytes: 0 });
        }
        let unreadable =
            |error: std::io::Error| Error::invalid("file", "FILE_UNREADABLE", format!("{}: {error}", file.display()));
        let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let metadata = opened.metadata().await.map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { lines: Box::new(BufReader::with_capacity(1 << 20, opened)), bytes: metadata.len() })
    }
}

async fn read(app: &App, input: Input) -> Result<replay::Summary> {
    let bar = match (std::io::stderr().is_terminal(), input.bytes) {
        (false, _) => ProgressBar::hidden(),
        (true, 0) => ProgressBar::new_spinner(),
        (true, bytes) => ProgressBar::new(bytes),
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let summary = replay::run(app, input.lines, |bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    summary
}

/// Standard output belongs to what was asked for. A reader that has gone, as in `… | head`, is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::bug(error)),
        _ => Ok(()),
    }
}
