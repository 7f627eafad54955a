//! The program as separate processes, one role each, and each role twice.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{process::Child, time::timeout};

use crate::support::{
    devnet::HTTP,
    process::{Program, kill, signal},
};

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Firehose,
    Process,
    /// With its place in the list of addresses.
    Api(usize),
    Sweep,
}

const ROLES: [Role; 8] = [
    Role::Firehose,
    Role::Firehose,
    Role::Process,
    Role::Process,
    Role::Api(0),
    Role::Api(1),
    Role::Sweep,
    Role::Sweep,
];

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firehose => "firehose",
            Self::Process => "process",
            Self::Api(_) => "api",
            Self::Sweep => "sweep",
        })
    }
}

/// How many lines of the log are of use when the test fails.
const LINES: usize = 60;
/// What is logged: where they listen, and whatever is wrong.
const LEVEL: &str = "warn,sqlx=off,sqlx::postgres::notice=off,gateway::roles::serve=info";
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// What a process may take to end, whatever it does: its grace, and the time for closing the database.
const END: Duration = Duration::from_secs(20);

/// Where the API's replicas answer.
pub(super) type Addresses = Arc<Mutex<[String; 2]>>;

/// A process with its address.
struct Member {
    child: Child,
    address: String,
}

/// All processes.
pub(super) struct Fleet {
    program: Program,
    /// In the order of the roles.
    members: Vec<Option<Member>>,
    addresses: Addresses,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Fleet {
    /// How many there are.
    pub(super) const SIZE: usize = ROLES.len();

    /// Starts them, and waits until they listen.
    pub(super) async fn start(program: Program) -> Self {
        let (addresses, log) = (Addresses::default(), Arc::default());
        let mut fleet = Self { program, members: Vec::new(), addresses, log };
        for number in 0..Self::SIZE {
            fleet.members.push(None);
            fleet.revive(number).await;
        }
        fleet
    }

    pub(super) fn addresses(&self) -> Addresses {
        Arc::clone(&self.addresses)
    }

    /// Whose number it is.
    pub(super) fn role(number: usize) -> Role {
        ROLES[number]
    }

    /// How many have this role.
    pub(super) fn count(role: Role) -> usize {
        ROLES.iter().filter(|other| **other == role).count()
    }

    /// The end of what they logged.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().make_contiguous().join("\n")
    }

    /// Kills one, which has not ended before, without a warning.
    pub(super) async fn kill(&mut self, number: usize) {
        let role = Self::role(number);
        let member = self.members[number].take().expect("it runs");
        assert!(kill(member.child).await, "{role} ended by itself");
    }

    /// Starts the one that does not run, and waits until it listens.
    pub(super) async fn revive(&mut self, number: usize) {
        let role = Self::role(number);
        let log = Arc::clone(&self.log);
        let tell = move |line| {
            let mut log = log.lock().unwrap();
            log.push_back(format!("{role} {number}: {line}"));
            if log.len() > LINES {
                log.pop_front();
            }
        };
        let (child, address) = self.program.serve_telling(&role.to_string(), LEVEL, tell).await;
        if let Role::Api(place) = role {
            self.addresses.lock().unwrap()[place].clone_from(&address);
        }
        self.members[number] = Some(Member { child, address });
    }

    /// None has ended by itself.
    pub(super) fn verify(&mut self) {
        for (number, member) in self.members.iter_mut().enumerate() {
            let ended = member.as_mut().expect("all run").child.try_wait().unwrap();
            assert_eq!(ended, None, "{} ended by itself", Self::role(number));
        }
    }

    /// Those that do not say that they and all that they use are well.
    pub(super) async fn unready(&self) -> Vec<String> {
        let mut unready = Vec::new();
        for number in 0..Self::SIZE {
            let answer = self.ask(number, "/health/ready").await;
            let status = serde_json::from_str::<Value>(&answer).unwrap_or_default();
            if status["status"] != "ok" {
                unready.push(format!("{} {number} says {answer:?}", Self::role(number)));
            }
        }
        unready
    }

    /// The sum of the figures whose lines in the metrics begin so, of each who has this role, by number.
    pub(super) async fn figures(&self, role: Role, begins: &str) -> Vec<(usize, f64)> {
        let mut figures = Vec::new();
        for number in (0..Self::SIZE).filter(|number| Self::role(*number) == role) {
            let metrics = self.ask(number, "/metrics").await;
            let lines = metrics.lines().filter(|line| line.starts_with(begins));
            figures.push((number, lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()));
        }
        figures
    }

    /// What one answers; nothing where it is not to be reached.
    async fn ask(&self, number: usize, path: &str) -> String {
        let Some(Member { address, .. }) = &self.members[number] else { return String::new() };
        let asked = async { HTTP.get(format!("http://{address}{path}")).send().await?.text().await };
        timeout(ANSWER, asked).await.map_or_else(|_| String::new(), Result::unwrap_or_default)
    }

    /// Asks all of them to end, and waits for that.
    pub(super) async fn end(mut self) {
        for member in self.members.iter().flatten() {
            signal(&member.child, "TERM").await;
        }
        for (number, member) in self.members.iter_mut().enumerate() {
            let ended = timeout(END, member.as_mut().expect("all run").child.wait()).await;
            let status = ended.unwrap_or_else(|_| panic!("{} does not end", Self::role(number))).unwrap();
            assert!(status.success(), "{} ended with {status}", Self::role(number));
        }
    }
}
