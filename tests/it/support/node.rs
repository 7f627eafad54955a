//! Programs for node, with the packages that their lock file names.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// What the packages ask for.
const OLDEST: u32 = 20;
/// Far more than installing or building takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// The project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with a `package.json`, installed.
pub(crate) struct Packages {
    folder: PathBuf,
    /// Where the node is, when the one of the machine is too old.
    node: Option<PathBuf>,
}

impl Packages {
    /// Installs what is not there yet. Processes that do so at once wait for each other.
    pub(crate) async fn installed(folder: &str) -> Self {
        let folder = root().join(folder);
        let lock = fs::File::create(folder.join(".install.lock")).unwrap();
        lock.lock().unwrap();
        let packages = Self { node: node().await, folder };
        // `npm ci` empties node_modules first, so a copy of the lock file in there means a finished installation.
        let (wanted, mark) = ("package-lock.json", "node_modules/.installed-lock.json");
        let [wanted, mark] = [wanted, mark].map(|name| packages.folder.join(name));
        if fs::read(&mark).ok() != Some(fs::read(&wanted).unwrap()) {
            packages.run("npm", &["ci", "--loglevel=error"], &[]).await;
            fs::copy(wanted, mark).unwrap();
        }
        packages
    }

    /// A command that runs in the folder.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"PATH="$0$PATH" exec "$@""#]);
        command.arg(self.node.as_ref().map_or(String::new(), |node| format!("{}:", node.display())));
        command.arg(program).args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end, which is to be a good one; what it said.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let ended = self.command(program, arguments).envs(variables.iter().copied()).output();
        let ended = timeout(PATIENCE, ended).await.expect("it ends in time").unwrap();
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(ended.status.success(), "{program} {arguments:?}: {}\n{said}", ended.status);
        said
    }
}

/// The folder of a node that is new enough: none for the machine's own, otherwise of the one that the devnet gets.
async fn node() -> Option<PathBuf> {
    let asked = Command::new("node").args(["-p", "process.versions.node"]).output().await;
    let version = asked.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= OLDEST) {
        return None;
    }
    let got = Command::new(root().join("tests/devnet/run")).arg("--print-node").output().await.unwrap();
    assert!(got.status.success(), "no node: {}", String::from_utf8_lossy(&got.stderr));
    let node = String::from_utf8(got.stdout).unwrap();
    Some(Path::new(node.trim()).parent().unwrap().to_owned())
}
