//! The program that the examples talk to: at one address over all its restarts, with a few events that never grow old.

use std::{
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use gateway::{
    app::App,
    config,
    domain::{
        account::{self, SignedIn},
        session::{self, Kind},
    },
    infra::clock::Clock,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{
    devnet::HTTP,
    graphql::GraphQl,
    process::Program,
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, datetime, did, tid, uri},
};

/// Names of the events that are always there, the soonest first.
pub(super) const NAMES: [&str; 2] = ["Rust evening", "Garden party"];
/// Where the first of them takes place.
pub(super) const PLACE: (f64, f64) = (52.52, 13.405);
/// Far more than starting takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Tells these repositories from others.
const SEED: u64 = 2;

/// The running program over a database of its own.
pub(super) struct Running {
    /// Further processes over the same database.
    pub(super) program: Arc<Program>,
    address: SocketAddr,
    child: Option<Child>,
    folder: TempDir,
}

impl Running {
    /// Starts it and waits until it has the events of [`NAMES`].
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::over(&format!("sqlite://{}?mode=rwc", folder.path().join("gateway.sqlite").display()));
        // Many small commits, between which anything may happen.
        let program = Arc::new(program.with("GATEWAY_INGEST__BATCH_SIZE", "10"));
        program.replay(&program.file(opening())).await;
        let mut running = Self { program, address: free_address(), child: None, folder };
        running.up().await;
        running
    }

    /// Starts it again, where it was before.
    pub(super) async fn up(&mut self) {
        let mut command = self.program.command(&["serve", "--roles", "api", "--listen", &self.address.to_string()]);
        // The test's own output shows the log when the test fails.
        let child = self.child.insert(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap());
        let began = Instant::now();
        let ready = format!("http://{}/health/ready", self.address);
        while !HTTP.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE, "the program does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes it down: without a warning, or as a service manager would.
    pub(super) async fn down(&mut self, warned: bool) {
        let mut child = self.child.take().expect("it runs");
        if warned {
            assert!(end(child).await, "it ends well");
        } else {
            child.kill().await.unwrap();
        }
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its API.
    pub(super) fn graphql(&self) -> GraphQl {
        GraphQl::new(self.address)
    }

    /// A key that administers and speaks for the network.
    pub(super) async fn admin_key(&self) -> String {
        let made = self.program.run(&["keys", "create", "examples", "--admin", "--source", "bluesky"]).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
    }

    /// The session of a member who has signed in, and the identifier of the account.
    pub(super) async fn member(&self) -> (String, String) {
        let url = format!("sqlite://{}", self.folder.path().join("gateway.sqlite").display());
        let settings = format!("database = {{ url = {url:?} }}\nstreams = {{ endpoints = [] }}");
        let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
        let app = App::open(config, Clock::system()).await.unwrap();
        let signed_in = SignedIn {
            did: guest(7),
            handle: None,
            pds: "https://pds.example.com".parse().unwrap(),
            scopes: vec!["atproto".to_owned()],
        };
        let user = account::sign_in(&app, &signed_in).await.unwrap();
        let opened = session::open(&app, user.id, Kind::Bearer, Some("an example")).await.unwrap();
        app.db.close().await;
        (opened.token, BASE64URL_NOPAD.encode(format!("account:{}", user.id).as_bytes()))
    }

    /// A folder for a test's own files.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The cursors of all changes after one, or from the oldest on.
    pub(super) async fn cursors(&self, after: Option<&str>) -> Vec<String> {
        let document = "query ($after: StreamCursor) {
            eventChanges(after: $after, first: 500) { changes { cursor } endCursor hasMore }
        }";
        let mut cursors = Vec::new();
        let mut after = json!(after);
        loop {
            let page = self.graphql().query(document, &json!({ "after": after })).await["eventChanges"].take();
            let changes = page["changes"].as_array().unwrap();
            cursors.extend(changes.iter().map(|change| change["cursor"].as_str().unwrap().to_owned()));
            after = page["endCursor"].clone();
            if page["hasMore"] == json!(false) {
                return cursors;
            }
        }
    }
}

/// Asks a process to end; whether it then says that all went well.
pub(super) async fn end(mut child: Child) -> bool {
    let pid = child.id().expect("it has not ended by itself");
    let told = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.unwrap();
    assert!(told.success(), "it has ended by itself");
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends when it is told to").unwrap().success()
}

/// Who organises the events of [`NAMES`].
pub(super) fn organizer() -> String {
    did(SEED, 0)
}

/// Who answers to the first of them: 1 goes, 2 is interested.
pub(super) fn guest(number: usize) -> String {
    did(SEED, number)
}

/// An address that nobody uses, from below the range that the system gives to outgoing connections: while the program
/// is down, a client that keeps trying could otherwise meet itself there.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The events of [`NAMES`] and the answers to the first.
fn opening() -> Vec<String> {
    let (latitude, longitude) = PLACE;
    let records = [
        json!({
            "$type": EVENT, "name": NAMES[0], "description": "Talks, and time to talk.",
            "createdAt": datetime(BEGINNING), "startsAt": "2099-05-01T17:00:00Z", "endsAt": "2099-05-01T20:00:00Z",
            "mode": format!("{EVENT}#hybrid"), "status": format!("{EVENT}#scheduled"),
            "locations": [
                { "$type": "community.lexicon.location.geo", "latitude": latitude.to_string(),
                  "longitude": longitude.to_string(), "name": "c-base" },
                { "$type": "community.lexicon.location.address", "country": "DE", "locality": "Berlin" },
            ],
            "uris": [{ "uri": "https://example.com/rust", "name": "Page" }],
        }),
        json!({
            "$type": EVENT, "name": NAMES[1], "createdAt": datetime(BEGINNING + 1),
            "startsAt": "2099-06-01T15:00:00Z", "status": format!("{EVENT}#planned"),
        }),
    ];
    let mut lines: Vec<String> = (0..).zip(&records).map(|(at, record)| line(0, BEGINNING + at, record)).collect();
    let event = uri(&organizer(), EVENT, &tid(BEGINNING, 0));
    for (number, status) in [(1, "going"), (2, "interested")] {
        let at = BEGINNING + 10 + i64::try_from(number).unwrap();
        let record = json!({
            "$type": RSVP, "status": format!("{RSVP}#{status}"), "createdAt": datetime(at),
            "subject": { "uri": event, "cid": cid_of(&records[0].to_string()) },
        });
        lines.push(line(number, at, &record));
    }
    lines
}

fn line(author: usize, at: i64, record: &Value) -> String {
    let (key, cid) = (tid(at, 0), cid_of(&record.to_string()));
    commit(&did(SEED, author), at, &tid(at, 1), record["$type"].as_str().unwrap(), &key, Some((&cid, record)))
}
