//! The program as separate processes, one role each.

use std::{
    fmt,
    fs::File,
    process::Stdio,
    sync::{Arc, Mutex},
};

use tempfile::NamedTempFile;
use tokio::process::Child;

use crate::support::process::{Program, kill};

/// Who runs: some roles twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Firehose,
    Process,
    /// With its place in the list of addresses.
    Api(usize),
    Sweep,
}

const ROLES: [Role; 6] = [Role::Firehose, Role::Process, Role::Process, Role::Api(0), Role::Api(1), Role::Sweep];

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
const LINES: usize = 40;

/// Where the API's replicas answer.
pub(super) type Addresses = Arc<Mutex<[String; 2]>>;

/// All processes.
pub(super) struct Fleet {
    program: Program,
    /// In the order of the roles.
    members: Vec<Option<Child>>,
    addresses: Addresses,
    log: NamedTempFile,
}

impl Fleet {
    /// How many there are.
    pub(super) const SIZE: usize = ROLES.len();

    /// Starts them all at once.
    pub(super) async fn start(program: Program) -> Self {
        let mut fleet =
            Self { program, members: Vec::new(), addresses: Addresses::default(), log: NamedTempFile::new().unwrap() };
        for role in ROLES {
            let child = fleet.launch(role).await;
            fleet.members.push(Some(child));
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

    async fn launch(&self, role: Role) -> Child {
        if let Role::Api(place) = role {
            let (child, address) = self.program.serve_api().await;
            self.addresses.lock().unwrap()[place] = address;
            return child;
        }
        let mut command = self.program.command(&["serve", "--roles", &role.to_string()]);
        let log = File::options().append(true).open(self.log.path()).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// The end of what they logged, those of the API left out.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Kills one, which has not ended before, without a warning.
    pub(super) async fn kill(&mut self, number: usize) {
        let role = Self::role(number);
        let child = self.members[number].take().expect("it runs");
        assert!(kill(child).await, "{role} ended by itself");
    }

    /// Starts the one that was killed.
    pub(super) async fn revive(&mut self, number: usize) {
        self.members[number] = Some(self.launch(Self::role(number)).await);
    }

    /// None has ended by itself.
    pub(super) fn verify(&mut self) {
        for (number, child) in self.members.iter_mut().enumerate() {
            let ended = child.as_mut().expect("all run").try_wait().unwrap();
            assert_eq!(ended, None, "{} ended by itself", Self::role(number));
        }
    }
}
