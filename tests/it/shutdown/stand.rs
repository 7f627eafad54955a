//! Servers as a deployment has them, with names of this test's own.

use std::time::{Duration, Instant};

use entities::source_record;
use gateway::infra::{
    clock::Clock,
    db::Db,
    queue::{BrokerSettings, Message, Queue, Settlement, Topic},
};
use sea_orm::{EntityTrait, PaginatorTrait};
use tokio::{process::Child, time::timeout};
use uuid::Uuid;

use crate::{
    kv::stores::{forget, redis_url},
    queue::broker::{self, TestBroker},
    support::{
        database::{TestDb, postgres},
        devnet::HTTP,
        process::{Program, signal},
    },
};

/// Far more than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// What a process has for its end: `http.shutdown_grace_seconds` as it is by default.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A database, a prefix of queues and a namespace of Redis that nobody else uses.
pub(super) struct Stand {
    pub(super) test: TestDb,
    pub(super) namespace: String,
    broker: TestBroker,
}

impl Stand {
    /// Where there is a PostgreSQL.
    pub(super) async fn new() -> Option<Self> {
        let test = postgres().await?;
        let mut broker = TestBroker::new(broker::url()).await;
        // What the program itself declares.
        let prefix = broker.settings.prefix;
        broker.settings = BrokerSettings { url: broker::url(), prefix, partitions: 2, ..BrokerSettings::default() };
        Some(Self { test, namespace: format!("test-{}", Uuid::now_v7().simple()), broker })
    }

    pub(super) fn program(&self) -> Program {
        Program::over(&self.test.url)
            .with("AMQP_URL", &self.broker.settings.url)
            .with("GATEWAY_QUEUE__PREFIX", &self.broker.settings.prefix)
            .with("GATEWAY_QUEUE__PARTITIONS", &self.broker.settings.partitions.to_string())
            .with("REDIS_URL", &redis_url())
            .with("GATEWAY_KV__NAMESPACE", &self.namespace)
    }

    /// The queue of records, over a connection of its own.
    pub(super) async fn queue(&self) -> Queue {
        Queue::rabbit(&self.broker.connect().await, Clock::system(), Topic::Records)
    }

    /// How many messages wait in the queue; perhaps not yet all of those that somebody has just given back. Takes them out and
    /// puts them back, since the broker does not tell how many were published together.
    pub(super) async fn waiting(&self) -> u64 {
        let queue = self.queue().await;
        let mut messages = Vec::new();
        let begun = Instant::now();
        while queue.depth().await.unwrap().messages > 0 {
            assert!(begun.elapsed() < PATIENCE, "{} messages came out", messages.len());
            let batch = queue.receive(1_000).await.unwrap();
            if batch.is_empty() {
                queue.wait().await;
            }
            messages.extend(batch.iter().map(|d| Message { key: d.key.clone(), body: d.body.clone() }));
            queue.settle(batch.into_iter().map(|delivery| (delivery, Settlement::Ack)).collect()).await.unwrap();
        }
        queue.publish(&messages).await.unwrap();
        messages.len() as u64
    }

    /// How many records are known.
    pub(super) async fn records(&self) -> u64 {
        records(&self.test.db).await
    }

    /// Deletes everything.
    pub(super) async fn discard(self) {
        self.broker.discard().await;
        forget(&self.namespace).await;
        self.test.discard().await;
    }
}

async fn records(db: &Db) -> u64 {
    source_record::Entity::find().count(db.read()).await.unwrap()
}

/// Tells a process to end; it does so in good order and within its grace.
pub(super) async fn end(child: Child, by: &str) {
    signal(&child, by).await;
    ended(child).await;
}

/// A process that was told to end does so in good order and within its grace.
pub(super) async fn ended(mut child: Child) {
    let begun = Instant::now();
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "it ended with {status}");
    assert!(begun.elapsed() < GRACE, "it took {:?}", begun.elapsed());
}

/// Waits until it is so.
pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "it never comes about that {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The sum of the figures whose lines in the metrics begin with this.
pub(super) async fn figure(address: &str, begins: &str) -> f64 {
    let metrics = HTTP.get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with(begins));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
