//! A fresh database for each test: always a SQLite file, and a PostgreSQL database where `TEST_DATABASE_URL` names a
//! server on which databases may be made. Without the variable PostgreSQL is skipped, which is said, and is a failure
//! when `CI` is `true`.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::{fmt::Write as _, panic::AssertUnwindSafe, path::Path};

use futures_util::FutureExt;
use gateway::{
    domain::tenant::Tenant,
    error::Error,
    infra::db::{Db, DbSettings},
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// Connections of one test to its database.
const CONNECTIONS: u32 = 8;

/// A migrated database that nobody else uses.
#[derive(Debug)]
pub(crate) struct TestDb {
    /// Open connections.
    pub(crate) db: Db,
    /// For a further process, or for `Db::connect` a second time.
    pub(crate) url: String,
    /// The default tenant.
    pub(crate) tenant: Tenant,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The folder goes with the value.
    Sqlite {
        _folder: TempDir,
    },
    Postgres {
        server: Url,
        name: String,
    },
}

impl TestDb {
    /// Deletes the database, whoever is still connected.
    pub(crate) async fn discard(self) {
        if let Place::Postgres { server, name } = &self.place {
            let admin = administer(server).await;
            admin.execute_unprepared(&format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#)).await.unwrap();
        }
    }

    /// Another handle with connections of its own, as another process would have.
    pub(crate) async fn connect_again(&self) -> Db {
        connect(&self.url).await
    }
}

/// Runs the test on each kind of database in turn, and deletes the databases even when it fails.
pub(crate) async fn on_each_database(test: impl AsyncFn(&TestDb)) {
    for database in databases().await {
        println!("on {:?}", database.db.backend());
        let outcome = AssertUnwindSafe(test(&database)).catch_unwind().await;
        database.discard().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One fresh database of each kind; whoever calls this discards them.
pub(crate) async fn databases() -> Vec<TestDb> {
    let mut databases = vec![sqlite().await];
    databases.extend(postgres().await);
    databases
}

/// A fresh SQLite file.
pub(crate) async fn sqlite() -> TestDb {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("gateway.sqlite").display());
    let db = connect(&url).await;
    db.migrate().await.unwrap();
    let tenant = Tenant::default(db.read()).await.unwrap();
    TestDb { db, url, tenant, place: Place::Sqlite { _folder: folder } }
}

/// A fresh PostgreSQL database, where there is a server.
pub(crate) async fn postgres() -> Option<TestDb> {
    let Some(server) = variable("TEST_DATABASE_URL") else {
        assert!(variable("CI").as_deref() != Some("true"), "TEST_DATABASE_URL must name a PostgreSQL server");
        println!("skipped on PostgreSQL: TEST_DATABASE_URL is not set");
        return None;
    };
    let server: Url = server.parse().expect("TEST_DATABASE_URL is a URL");
    let template = template(&server).await;
    let name = format!("gw_test_{}", Uuid::now_v7().simple());
    let admin = administer(&server).await;
    admin.execute_unprepared(&format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#)).await.unwrap();
    let url = with_database(&server, &name);
    let db = connect(&url).await;
    let tenant = Tenant::default(db.read()).await.unwrap();
    Some(TestDb { db, url, tenant, place: Place::Postgres { server, name } })
}

/// Runs statements as the gateway's own, in a transaction.
pub(crate) async fn execute(db: &Db, sql: &str) {
    db.transact(|tx| async move { tx.execute_unprepared(sql).await.map(drop).map_err(Error::from) }).await.unwrap();
}

/// Name of a migrated database to copy. It is made once for each state of the migrations, by whichever test comes first.
async fn template(server: &Url) -> String {
    let name = format!("gw_template_{}", fingerprint_of_migrations());
    let admin = administer(server).await;
    admin.execute_unprepared("SELECT pg_advisory_lock(hashtext('gw_template'))").await.unwrap();
    let found = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
    let found = Statement::from_string(DbBackend::Postgres, found);
    if admin.query_one_raw(found).await.unwrap().is_none() {
        // Under another name until it is whole: a test may be killed at any moment.
        let draft = format!("gw_draft_{}", Uuid::now_v7().simple());
        admin.execute_unprepared(&format!(r#"CREATE DATABASE "{draft}""#)).await.unwrap();
        connect(&with_database(server, &draft)).await.migrate().await.unwrap();
        let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{draft}'");
        admin.execute_unprepared(&ends).await.unwrap();
        admin.execute_unprepared(&format!(r#"ALTER DATABASE "{draft}" RENAME TO "{name}""#)).await.unwrap();
    }
    admin.execute_unprepared("SELECT pg_advisory_unlock(hashtext('gw_template'))").await.unwrap();
    name
}

fn fingerprint_of_migrations() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migration/src");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(file).unwrap());
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

async fn connect(url: &str) -> Db {
    Db::connect(&DbSettings { url: url.to_owned(), max_connections: CONNECTIONS }).await.unwrap()
}

/// One connection, so that its session's locks belong to whoever asked.
async fn administer(server: &Url) -> DatabaseConnection {
    let mut options = ConnectOptions::new(server.to_string());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.expect("the server of TEST_DATABASE_URL answers")
}

fn with_database(server: &Url, name: &str) -> String {
    let mut url = server.clone();
    url.set_path(name);
    url.to_string()
}

#[expect(clippy::disallowed_methods, reason = "where the tests' servers are is not a setting of the gateway")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
