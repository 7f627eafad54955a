//! PostgreSQL, Redis and RabbitMQ of the test's own, on loopback, on ports of their own and in a folder that goes with them. Each is
//! one process whose id is known, and so can be ended, killed and paused alone; it ends with the test, however that ends.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command as Blocking, Stdio},
    time::{Duration, Instant},
};

use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

/// Between two looks whether a server answers.
const LOOK: Duration = Duration::from_millis(50);
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Far more than starting and ending take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits for the end of its input, which is that of the test, and ends a server, paused or not, and whatever it has started.
const GUARD: &str = "read -r _
for status in /proc/[0-9]*/stat; do
  read -r child _ _ parent _ <$status && [ \"$parent\" = $1 ] && kill -CONT $child
done 2>/dev/null
kill -CONT $1; kill -$2 $1";

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    RabbitMq,
    Redis,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Postgres, Self::RabbitMq, Self::Redis];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::RabbitMq => "RabbitMQ",
            Self::Redis => "Redis",
        }
    }

    /// The signal that asks it to end. PostgreSQL does not wait for its clients then.
    const fn end(self) -> &'static str {
        if let Self::Postgres = self { "INT" } else { "TERM" }
    }

    /// The signal that ends it at once, with nothing tidied up. PostgreSQL is more than one process: it passes this on.
    const fn crash(self) -> &'static str {
        if let Self::Postgres = self { "QUIT" } else { "KILL" }
    }
}

/// Where the programs are that servers are made of.
pub(super) struct Programs {
    /// Folder of PostgreSQL's.
    postgres: PathBuf,
    rabbit: PathBuf,
}

impl Programs {
    /// Finds them, or says what is not installed.
    pub(super) fn find() -> Result<Self, &'static str> {
        let mut versions: Vec<PathBuf> =
            fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path()).collect();
        versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        // Debian keeps these off the PATH, and has its servers changed to a user of their own there.
        let postgres = versions.pop().map(|version| version.join("bin")).filter(|bin| bin.join("initdb").exists());
        let postgres = postgres.or_else(|| on_path("initdb")?.parent().map(Path::to_owned)).ok_or("PostgreSQL")?;
        let rabbit = Some(PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server")).filter(|path| path.exists());
        let rabbit = rabbit.or_else(|| on_path("rabbitmq-server")).ok_or("RabbitMQ")?;
        on_path("epmd").ok_or("Erlang's epmd")?;
        on_path("redis-server").ok_or("Redis")?;
        Ok(Self { postgres, rabbit })
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let found = Blocking::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output().unwrap();
    let path = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    found.status.success().then(|| fs::canonicalize(&path).unwrap_or(path))
}

/// One of each.
pub(super) struct Servers {
    all: [Server; 3],
    /// By which RabbitMQ's programs find each other.
    names: Running,
    _folder: TempDir,
}

impl Servers {
    /// Starts them all, and waits until they answer.
    pub(super) async fn start(programs: &Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = free_port();
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
        let names_running = Running::start(epmd, &folder.path().join("epmd.log"), "KILL");
        let (postgres, rabbit) = (postgres(programs, folder.path()).await, rabbit(programs, folder.path(), names));
        let mut all = [postgres, rabbit, redis(folder.path())];
        for server in &mut all {
            server.spawn();
        }
        for server in &all {
            server.answering().await;
        }
        Self { all, names: names_running, _folder: folder }
    }

    pub(super) fn of(&mut self, kind: Kind) -> &mut Server {
        self.all.iter_mut().find(|server| server.kind == kind).unwrap()
    }

    pub(super) fn look_at(&self, kind: Kind) -> &Server {
        self.all.iter().find(|server| server.kind == kind).unwrap()
    }

    /// Ends them all and waits for that.
    pub(super) async fn discard(mut self) {
        for server in &mut self.all {
            server.resume().await;
            server.crash().await;
        }
        self.names.end("KILL").await;
    }
}

/// A server that can be ended and started again, with what it keeps.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    command: Box<dyn Fn() -> Command + Send>,
    running: Option<Running>,
    paused: Vec<u32>,
}

impl Server {
    fn new(kind: Kind, port: u16, folder: PathBuf, command: impl Fn() -> Command + Send + 'static) -> Self {
        Self { kind, port, folder, command: Box::new(command), running: None, paused: Vec::new() }
    }

    /// For clients.
    pub(crate) fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(&mut self) {
        let mut command = (self.command)();
        command.current_dir(&self.folder);
        self.running = Some(Running::start(command, &self.folder.join("output"), self.kind.crash()));
    }

    /// Returns when it serves.
    pub(crate) async fn answering(&self) {
        let begun = Instant::now();
        while !timeout(ANSWER, self.answers()).await.unwrap_or_default() {
            let output = || fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{} does not answer: {}", self.kind.name(), output());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn answers(&self) -> bool {
        match self.kind {
            Kind::Postgres => {
                let mut options = ConnectOptions::new(self.url());
                options.max_connections(1).acquire_timeout(ANSWER).sqlx_logging(false);
                let Ok(db) = Database::connect(options).await else { return false };
                let answer = db.execute_unprepared("SELECT 1").await.is_ok();
                answer && db.close().await.is_ok()
            }
            // To whatever is no AMQP a broker answers with the version that it speaks.
            Kind::RabbitMq => self.says(b"hello123", b"AMQP").await.is_ok_and(|is_so| is_so),
            Kind::Redis => self.says(b"PING\r\n", b"+PONG").await.is_ok_and(|is_so| is_so),
        }
    }

    async fn says(&self, question: &[u8], answer: &[u8]) -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.write_all(question).await?;
        let mut said = vec![0; answer.len()];
        socket.read_exact(&mut said).await?;
        Ok(said == answer)
    }

    /// Whether so many listen to a channel of Redis.
    pub(super) async fn is_heard_by(&self, count: usize, channel: &str) -> bool {
        let question = format!("PUBSUB NUMSUB {channel}\r\n");
        let answer = format!("*2\r\n${}\r\n{channel}\r\n:{count}\r\n", channel.len());
        let asked = timeout(ANSWER, self.says(question.as_bytes(), answer.as_bytes())).await;
        asked.is_ok_and(|said| said.is_ok_and(|is_so| is_so))
    }

    /// Ends it in good order.
    pub(super) async fn stop(&mut self) {
        self.running.take().unwrap().end(self.kind.end()).await;
    }

    /// Ends it without a warning. Nothing happens to one that does not run.
    pub(crate) async fn crash(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.end(self.kind.crash()).await;
        }
    }

    /// Has it stand still, with all its connections open.
    pub(super) async fn pause(&mut self) {
        let id = self.running.as_ref().unwrap().child.id().unwrap();
        // Who is stopped first starts nobody any more.
        signal("STOP", &[id]).await;
        let children = children(id);
        signal("STOP", &children).await;
        self.paused = children.into_iter().chain([id]).collect();
    }

    /// Has it go on.
    pub(super) async fn resume(&mut self) {
        signal("CONT", &std::mem::take(&mut self.paused)).await;
    }
}

/// A process, and who ends it when the test is no more.
struct Running {
    child: Child,
    guard: Child,
}

impl Running {
    fn start(mut command: Command, output: &Path, end: &str) -> Self {
        let output = File::options().create(true).append(true).open(output).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let id = child.id().unwrap().to_string();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh", &id, end]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child, guard: guard.spawn().unwrap() }
    }

    async fn end(&mut self, with: &str) {
        // Before the id is anybody else's.
        self.guard.kill().await.unwrap();
        if let Some(id) = self.child.id() {
            signal(with, &[id]).await;
        }
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
    }
}

async fn signal(name: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let processes = processes.iter().map(u32::to_string);
        // Some of them may have ended by themselves.
        Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status().await.unwrap();
    }
}

/// The processes that this one has started.
fn children(id: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    numbers.filter(|process| parent(process) == Some(id)).collect()
}

/// A port that nobody uses, below the range that the system hands out by itself, so that it is still free after a restart.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn folder(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

/// How a program of PostgreSQL is called, which refuses to run as root.
fn as_somebody(program: &Path) -> Command {
    let somebody =
        ["postgres", "nobody"].into_iter().find(|user| is_user(user)).expect("there is a user without rights");
    if !is_user_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", somebody, "--clear-groups"]).arg(program);
    command
}

fn is_user(name: &str) -> bool {
    Blocking::new("id").arg(name).output().unwrap().status.success()
}

fn is_user_root() -> bool {
    Blocking::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

async fn postgres(programs: &Programs, parent: &Path) -> Server {
    let (folder, bin, port) = (folder(parent, "postgres"), programs.postgres.clone(), free_port());
    if is_user_root() {
        let owner = if is_user("postgres") { "postgres" } else { "nobody" };
        for path in [parent, &folder] {
            assert!(Blocking::new("chmod").arg("711").arg(path).status().unwrap().success());
        }
        assert!(Blocking::new("chown").arg(owner).arg(&folder).status().unwrap().success());
    }
    let mut initdb = as_somebody(&bin.join("initdb"));
    initdb.arg("-D").arg(folder.join("data")).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
    let made = initdb.current_dir(&folder).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let data = folder.join("data");
    Server::new(Kind::Postgres, port, folder, move || {
        let mut command = as_somebody(&bin.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        // What a crash of the machine would lose does not matter here; what one of the server would lose does.
        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "fsync=off"];
        for setting in settings {
            command.args(["-c", setting]);
        }
        command
    })
}

/// A Redis alone, which answers.
pub(crate) async fn redis_alone(parent: &Path) -> Server {
    on_path("redis-server").expect("Redis is installed");
    let mut server = redis(parent);
    server.spawn();
    server.answering().await;
    server
}

fn redis(parent: &Path) -> Server {
    let port = free_port();
    Server::new(Kind::Redis, port, folder(parent, "redis"), move || {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command
    })
}

/// The node has a name, a cookie (in HOME) and ports of its own; nothing of it touches another node.
fn rabbit(programs: &Programs, parent: &Path, names: u16) -> Server {
    let (folder, program) = (folder(parent, "rabbit"), programs.rabbit.clone());
    fs::write(folder.join("plugins"), "[].").unwrap();
    fs::write(folder.join("config.conf"), "").unwrap();
    let (port, between_nodes) = (free_port(), free_port());
    let own = folder.clone();
    Server::new(Kind::RabbitMq, port, folder, move || {
        let mut command = Command::new(&program);
        for (name, path) in [
            ("HOME", ""),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ("RABBITMQ_CONFIG_FILE", "config"),
        ] {
            command.env(name, own.join(path));
        }
        command
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("gateway-faults-{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", between_nodes.to_string())
            .env("RABBITMQ_SERVER_START_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // Its script then becomes the server instead of staying in front of it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        command
    })
}
