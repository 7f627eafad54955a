//! The real program in processes of its own, which a test may kill.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
};

/// How the program is started, again and again.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where it runs: a file of settings in the caller's folder is none of its business.
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Program {
    /// Over a database, following no stream.
    pub(crate) fn over(database: &str) -> Self {
        let program = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        let program = program
            .with("DATABASE_URL", database)
            .with("GATEWAY_STREAMS__ENDPOINTS", "")
            .with("GATEWAY_STREAMS__BACKFILL", "")
            .with("GATEWAY_NETWORK__APPVIEW_URL", "")
            .with("GATEWAY_HTTP__LISTEN", "127.0.0.1:0");
        // Nobody may be asked: a port on which nothing listens.
        let program = program.with("GATEWAY_NETWORK__PLC_URL", "http://127.0.0.1:1");
        program.with("GATEWAY_NETWORK__APPVIEW_URL", "").with("GATEWAY_NETWORK__ALLOW_PRIVATE", "true")
    }

    /// With a setting, given as a variable of the environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(held, _)| held != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file of lines beside it.
    pub(crate) fn file(&self, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> PathBuf {
        let path = self.folder.path().join("lines.jsonl");
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line.as_ref());
            bytes.push(b'\n');
        }
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A command, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openmeet-gateway"));
        command.args(arguments).current_dir(&self.folder).env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts it; what it prints is not looked at.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Replays a file to its end, which is to be a good one; what it printed.
    pub(crate) async fn replay(&self, file: &Path) -> String {
        let ended = self.run(&["replay", file.to_str().unwrap()]).await;
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Starts `serve --roles api` on a free port; the process and its address.
    pub(crate) async fn serve_api(&self) -> (Child, String) {
        self.serve("api").await
    }

    /// The same with these roles.
    pub(crate) async fn serve(&self, roles: &str) -> (Child, String) {
        self.serve_telling(roles, "info", drop).await
    }

    /// The same with this level of log, which includes that of `gateway::roles::serve`; each line of it is handed on.
    pub(crate) async fn serve_telling(
        &self,
        roles: &str,
        level: &str,
        tell: impl Fn(String) + Send + 'static,
    ) -> (Child, String) {
        let mut command = self.command(&["serve", "--roles", roles, "--listen", "127.0.0.1:0"]);
        let mut child = command.env("GATEWAY_LOG__LEVEL", level).stdout(Stdio::null()).spawn().unwrap();
        let address = address(child.stderr.take().unwrap(), tell).await;
        (child, address)
    }
}

/// Kills without a warning, and waits until nothing is left of it. `false` when it had ended by itself.
pub(crate) async fn kill(mut child: Child) -> bool {
    let ended: Option<ExitStatus> = child.try_wait().unwrap();
    child.kill().await.unwrap();
    assert!(ended.is_none_or(|status| status.success()), "ended by itself with {ended:?}");
    ended.is_none()
}

/// Sends a signal, by its name without SIG.
pub(crate) async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
}

/// The address that the log names; the rest of the log is read all the same, so that the writer never waits.
async fn address(log: ChildStderr, tell: impl Fn(String) + Send + 'static) -> String {
    let mut lines = BufReader::new(log).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(address) = entry["address"].as_str() {
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    tell(line);
                }
            });
            return address.to_owned();
        }
        assert!(entry["level"] != "ERROR", "{line}");
        tell(line);
    }
    panic!("the program ended before it listened");
}
