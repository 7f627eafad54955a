//! What an operator meets: starting, being told what is wrong, clients that behave badly, stopping.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use entities::{ingest_failure, sets::FailureState};
use gateway::domain::{
    actor::Actor,
    ingest::failure::{self, Choice, Filter},
};
use sea_orm::EntityTrait;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    app::TestApp,
    database::{on_each_database, sqlite},
    gateway::Launch,
    process::{Program, kill},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const QUESTION: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn say(address: &str, words: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(words).await.unwrap();
    socket
}

/// All that the other side still says, until it closes.
async fn heard(mut socket: TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the other side closes").ok();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dawdles_is_let_go() {
    let test = sqlite().await;
    let (child, address) = Program::over(&test.url).with("GATEWAY_HTTP__HEADER_TIMEOUT_SECONDS", "1").serve_api().await;
    let half = say(&address, b"GET /health/live HTTP/1.1\r\nhost:").await;
    let silent = say(&address, b"").await;
    let answer = heard(say(&address, QUESTION).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for socket in [half, silent] {
        assert!(!heard(socket).await.contains("200"));
    }
    kill(child).await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_their_turn() {
    let test = sqlite().await;
    let (child, address) = Program::over(&test.url).with("GATEWAY_HTTP__MAX_CONNECTIONS", "2").serve_api().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        // An answer shows that it has a place; it keeps it, since it may ask again.
        let mut socket = say(&address, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(socket.read_u8().await.is_ok());
        held.push(socket);
    }
    let mut third = say(&address, QUESTION).await;
    assert!(timeout(Duration::from_millis(300), third.read_u8()).await.is_err(), "it was served all the same");
    held.pop();
    let answer = heard(third).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    kill(child).await;
    test.discard().await;
}

/// What it says in the end, and after how long.
async fn fails(program: &Program, arguments: &[&str]) -> (String, Duration) {
    let begun = Instant::now();
    let ended = program.run(arguments).await;
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    (said.lines().last().unwrap_or_default().to_owned(), begun.elapsed())
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("text"), "no database at all, and longer than the head of one has to be: ".repeat(20)).unwrap();
    let cases = [
        // No port of the machine is lower than this one, and nothing listens there.
        ("postgres://u:secret@127.0.0.1:1/db?password=secret".to_owned(), "postgres://u:***@127.0.0.1:1/db", "refused"),
        ("postgres://u:secret@nowhere.invalid/db".to_owned(), "postgres://u:***@nowhere.invalid/db", ""),
        (format!("sqlite://{}/below", path("text")), "text/below", "make the folder"),
        (format!("sqlite://{}", folder.path().display()), "sqlite:///", "unable to open"),
        (format!("sqlite://{}", path("text")), "/text", "not a database"),
    ];
    for (url, place, cause) in cases {
        for arguments in [&["serve"][..], &["migrate"]] {
            let (said, took) = fails(&Program::over(&url), arguments).await;
            assert!(said.contains("failed to use the database: connect to "), "{url}: {said}");
            assert!(said.contains(place) && said.contains(cause), "{url}: {said}");
            assert!(!said.contains("secret"), "{said}");
            // A resolver may take its time, but the pool's own limit is not what ends it.
            assert!(took < Duration::from_secs(8), "{url}: {took:?}");
        }
    }
}

/// A database that nobody else has open.
fn alone(folder: &TempDir) -> (String, impl Fn() -> Vec<String>) {
    let path = folder.path().to_owned();
    let files = move || {
        let names = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    (format!("sqlite://{}", folder.path().join("db.sqlite").display()), files)
}

#[tokio::test]
async fn a_replay_of_nothing_leaves_the_database_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (url, files) = alone(&folder);
    for missing in ["/nowhere/at/all.jsonl", "/"] {
        let (said, _) = fails(&Program::over(&url), &["replay", missing]).await;
        assert!(said.contains(missing), "{said}");
    }
    assert_eq!(files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (url, files) = alone(&folder);
    let program = Program::over(&url);
    let lines = program.file(["nonsense"]);
    let replay = ["replay", lines.to_str().unwrap()];
    for arguments in [&["migrate"][..], &replay, &["failures", "list"], &["failures", "discard", "--all"]] {
        assert!(program.run(arguments).await.status.success());
        assert_eq!(files(), ["db.sqlite"], "after {arguments:?}");
    }
    let nothing = |name| (name, String::new());
    let settings = [nothing("GATEWAY_STREAMS__ENDPOINTS"), nothing("GATEWAY_STREAMS__BACKFILL")];
    let running = Launch::new(&url, settings).start().await;
    assert!(running.stop().await.success());
    assert_eq!(files(), ["db.sqlite"], "after serve");
}

#[tokio::test]
async fn ids_that_are_not_parked_are_told() {
    on_each_database(async |test| {
        let program = Program::over(&test.url);
        program.replay(&program.file(["nonsense", "more nonsense"])).await;
        let app = TestApp::open(test).await;
        let parked = failure::following(&app.app, &Actor::Operator, &Filter::parked(), 0, 10).await.unwrap();
        let ids: Vec<String> = parked.iter().map(|row| row.id.to_string()).collect();
        for command in ["list", "retry", "discard"] {
            let (said, _) = fails(&program, &["failures", command, "999", "998"]).await;
            assert_eq!(said, "openmeet-gateway: failed to find parked message 998, 999");
        }
        let some = program.run(&["failures", "discard", &ids[0], "999"]).await;
        assert_eq!(some.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&some.stdout), "discarded 1\n");
        assert!(String::from_utf8_lossy(&some.stderr).contains("failed to find 1 of the messages: 999"));
        // A limit hides what is there; that is no mistake.
        let limited = program.run(&["failures", "discard", "--limit", "1", &ids[1], &ids[1]]).await;
        assert!(limited.status.success());
        assert_eq!(String::from_utf8_lossy(&limited.stdout), "discarded 1\n");
        assert!(program.run(&["failures", "retry", "--all"]).await.status.success(), "nothing is left, which is fine");
    })
    .await;
}

#[tokio::test]
async fn a_role_that_is_misspelt_is_answered_with_the_known_ones() {
    let program = Program::over("sqlite://never.sqlite");
    let ended = program.run(&["serve", "--roles", "api,firehoze"]).await;
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(said.contains("api, firehose, process, sweep") && said.contains("'firehose'"), "{said}");
}

#[tokio::test]
async fn what_was_decided_long_ago_is_forgotten() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let bodies = ["one", "two", "three"].map(str::to_owned);
        gateway::domain::ingest::submit(&app, &bodies).await.unwrap();
        let choice = Choice { filter: Filter::default(), after: 0, limit: 1, is_dry_run: false, patience: None };
        failure::discard(&app, &Actor::Operator, &choice, "of no use").await.unwrap();
        let day = Duration::from_hours(24);
        let clear = async |days: i64| {
            let now = app.clock.now() + TimeDelta::days(days);
            app.db.transact(|tx| async move { failure::clear(&*tx, now, 30 * day).await }).await.unwrap()
        };
        assert_eq!(clear(29).await, 0);
        // The message, and what its history holds.
        assert_eq!(clear(31).await, 5);
        let left = ingest_failure::Entity::find().all(app.db.read()).await.unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|row| row.state == FailureState::Parked));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_migrate_waits_for_whoever_does() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = alone(&folder);
    let program = Program::over(&url).with("GATEWAY_DATABASE__MIGRATE", "false");
    let (said, _) = fails(&program, &["failures", "list"]).await;
    assert!(said.contains("run `openmeet-gateway migrate`"), "{said}");

    let starting = program.serve_api();
    let migrating = async {
        // Whenever this comes, before or after the first look.
        assert!(program.run(&["migrate"]).await.status.success());
    };
    let ((child, address), ()) = timeout(PATIENCE, async { tokio::join!(starting, migrating) }).await.unwrap();
    let answer = heard(say(&address, QUESTION).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    kill(child).await;
}
