//! The real program as a child process, killed when the test ends.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
    time::timeout,
};

/// Far more than starting and stopping take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How to start the program; every start has the same settings, so that a restart goes on where the last one ended.
#[derive(Debug)]
pub(crate) struct Launch {
    settings: Vec<(&'static str, String)>,
    /// A working directory without a configuration file.
    folder: TempDir,
}

impl Launch {
    /// On this database, with these variables besides.
    pub(crate) fn new(database_url: &str, settings: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut settings: Vec<_> = settings.into_iter().collect();
        settings.push(("DATABASE_URL", database_url.to_owned()));
        settings.push(("GATEWAY_LOG__FORMAT", "json".to_owned()));
        Self { settings, folder: tempfile::tempdir().unwrap() }
    }

    /// Starts it on a free port and waits until it listens.
    pub(crate) async fn start(&self) -> Gateway {
        let mut child = Command::new(env!("CARGO_BIN_EXE_openmeet-gateway"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .envs(self.settings.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let log = Log::default();
        let (listens, address) = oneshot::channel();
        tokio::spawn(log.clone().keep(child.stderr.take().unwrap(), listens));
        match timeout(PATIENCE, address).await {
            Ok(Ok(address)) => Gateway { address, child, log },
            // It ended, or says nothing: the log that is printed with the failure tells why.
            other => {
                child.start_kill().ok();
                panic!("the program does not listen: {other:?}");
            }
        }
    }
}

/// A running program. When a test fails while it holds one, its log is printed.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    log: Log,
}

impl Gateway {
    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end, as a service manager would, and waits for it.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().expect("it has not ended by itself");
        let told = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.unwrap();
        assert!(told.success(), "the program has ended by itself");
        timeout(PATIENCE, self.child.wait()).await.expect("it ends when it is told to").unwrap()
    }

    /// The lines that it has logged so far.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }
}

/// The lines of a child's log, printed by whoever holds the last handle when the test fails.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Reads to the end, and tells the address when it is logged.
    async fn keep(self, stderr: ChildStderr, listens: oneshot::Sender<SocketAddr>) {
        let mut listens = Some(listens);
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let address =
                serde_json::from_str(&line).ok().and_then(|line: Value| line["address"].as_str()?.parse().ok());
            if let Some(address) = address
                && let Some(listens) = listens.take()
            {
                listens.send(address).ok();
            }
            self.lines.lock().unwrap().push(line);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = std::mem::take(&mut *self.lines.lock().unwrap());
            for line in lines {
                println!("gateway: {line}");
            }
        }
    }
}
