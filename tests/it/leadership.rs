//! Of several processes one leads, whatever becomes of it: real processes, by a lock on Redis and by one in the database.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use gateway::infra::db::Db;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::json;
use tokio::process::Child;

use crate::{
    faults::servers::redis_alone,
    support::{
        database::postgres,
        devnet::HTTP,
        graphql::GraphQl,
        process::{Program, kill, signal},
    },
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than a lock is held without being renewed.
const TERM: Duration = Duration::from_secs(11);

/// A process with its address.
struct Member {
    child: Child,
    address: String,
}

impl Member {
    async fn start(program: &Program) -> Self {
        let (child, address) = program.serve("api,sweep").await;
        Self { child, address }
    }

    /// What it says of itself.
    async fn leads(&self) -> bool {
        let metrics = HTTP.get(format!("http://{}/metrics", self.address)).send().await.unwrap().text().await.unwrap();
        let line = |line: &str| line.strip_prefix("gateway_leader{work=\"sweep\"} ").map(|value| value == "1");
        metrics.lines().find_map(line).unwrap_or_default()
    }

    /// Whether people are answered.
    async fn reads(&self) {
        let api = GraphQl::new(self.address.parse().unwrap());
        assert_eq!(api.query("{ events { nodes { name } } }", &json!({})).await["events"]["nodes"], json!([]));
    }
}

async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The number of the last holding in whose name something was written.
async fn fence(db: &Db) -> i64 {
    let sql = Statement::from_string(db.backend(), "SELECT max(fence) AS fence FROM kv_fence WHERE key LIKE '%sweep'");
    db.read()
        .query_one_raw(sql)
        .await
        .unwrap()
        .unwrap()
        .try_get::<Option<i64>>("", "fence")
        .unwrap()
        .unwrap_or_default()
}

/// Kills and pauses whoever leads; returns the two that are left in the end, the leader first.
async fn trouble(program: &Program, db: &Db) -> [Member; 2] {
    let first = Member::start(program).await;
    until("the only one does not lead", || first.leads()).await;
    let second = Member::start(program).await;
    // As long as it takes to ask for the lock and to renew it, several times.
    let begun = Instant::now();
    while begun.elapsed() < TERM {
        assert!(first.leads().await && !second.leads().await, "not the first one leads, or not alone");
        tokio::time::sleep(LOOK).await;
    }
    until("a leader writes nothing", async || fence(db).await > 0).await;

    let before = fence(db).await;
    assert!(kill(first.child).await, "it ended by itself");
    until("nobody takes over from a dead leader", || second.leads()).await;
    until("nothing is written in the new leader's name", async || fence(db).await > before).await;

    let before = fence(db).await;
    let third = Member::start(program).await;
    signal(&second.child, "STOP").await;
    until("nobody takes over from a leader that stands still", || third.leads()).await;
    // From here on nothing is let through that is written in the name of the former holding.
    until("nothing is written in the new leader's name", async || fence(db).await > before).await;
    let now = fence(db).await;
    signal(&second.child, "CONT").await;
    until("a leader that slept through its term goes on leading", async || !second.leads().await).await;
    let begun = Instant::now();
    while begun.elapsed() < TERM {
        assert!(third.leads().await && !second.leads().await, "the one that slept leads again");
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(fence(db).await, now, "the lock has moved without a reason");
    [third, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_by_a_lock_in_the_database() {
    let Some(test) = postgres().await else { return };
    for member in trouble(&Program::over(&test.url), &test.db).await {
        assert!(kill(member.child).await, "it ended by itself");
    }
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_by_a_lock_on_redis_and_none_without_it() {
    let Some(test) = postgres().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut redis = redis_alone(folder.path()).await;
    let members = trouble(&Program::over(&test.url).with("REDIS_URL", &redis.url()), &test.db).await;

    let before = fence(&test.db).await;
    redis.crash().await;
    let [one, other] = &members;
    until("somebody leads without Redis", async || !one.leads().await && !other.leads().await).await;
    for member in &members {
        member.reads().await;
    }
    // It comes back with nothing of what it held.
    redis.spawn();
    redis.answering().await;
    until("nobody leads again", async || one.leads().await != other.leads().await).await;
    until("nothing is written in the new leader's name", async || fence(&test.db).await > before).await;

    for member in members {
        assert!(kill(member.child).await, "it ended by itself");
    }
    redis.crash().await;
    test.discard().await;
}
