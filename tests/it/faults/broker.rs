//! The broker as the test sees it, over connections of its own: who consumes, and what is left in the queues.

use std::time::Duration;

use gateway::{
    error::Result,
    infra::{
        clock::Clock,
        queue::{Broker, BrokerSettings, Queue, Topic},
    },
};
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use tokio::time::timeout;

/// As the program has them by default.
pub(super) const PARTITIONS: u16 = 8;
/// What a look may take.
const ANSWER: Duration = Duration::from_secs(3);

/// Who looks.
pub(super) struct Watch {
    settings: BrokerSettings,
    queues: [Queue; 2],
}

impl Watch {
    pub(super) fn over(url: String) -> Self {
        let settings = BrokerSettings { url, partitions: PARTITIONS, ..BrokerSettings::default() };
        let broker = Broker::open(&settings).unwrap();
        let queues = Topic::ALL.map(|topic| Queue::rabbit(&broker, Clock::system(), topic));
        Self { settings, queues }
    }

    /// Queues with messages to be processed from which nobody consumes. (Of a partition the broker lets one at a time, and need
    /// not count those who wait for that.)
    pub(super) async fn unconsumed(&self) -> Vec<String> {
        let mut ends: Vec<String> = (0..PARTITIONS).map(|number| number.to_string()).collect();
        ends.extend(["large", "suspects"].map(str::to_owned));
        self.odd(&ends, |consumers| consumers > 0).await
    }

    /// Queues by which processors count each other, with another count. What they share out by it they look at three times a
    /// minute.
    pub(super) async fn miscounted(&self, processors: usize) -> Vec<String> {
        self.odd(&["presence".to_owned()], |consumers| usize::try_from(consumers).unwrap() == processors).await
    }

    /// Queues, by the ends of their names, whose consumers are not as they should be.
    async fn odd(&self, ends: &[String], is_right: impl Fn(u32) -> bool) -> Vec<String> {
        match timeout(ANSWER, self.consumers(ends)).await {
            Ok(Ok(found)) => {
                let odd = found.into_iter().filter(|(_, consumers)| !is_right(*consumers));
                odd.map(|(queue, consumers)| format!("{consumers} consume from {queue}")).collect()
            }
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => vec!["the broker does not answer".to_owned()],
        }
    }

    async fn consumers(&self, ends: &[String]) -> lapin::Result<Vec<(String, u32)>> {
        let connection = Connection::connect(&self.settings.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut found = Vec::new();
        for topic in Topic::ALL.map(Topic::as_str) {
            for end in ends {
                let queue = format!("{}.bluesky.{topic}.{end}", self.settings.prefix);
                let options = QueueDeclareOptions::durable().passive();
                let declared = channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
                found.push((queue, declared.consumer_count()));
            }
        }
        connection.close(200, "OK".into()).await?;
        Ok(found)
    }

    /// What waits or is given up, in words.
    pub(super) async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for queue in &self.queues {
            let topic = queue.topic().as_str();
            match self.depth(queue).await {
                Ok((0, 0)) => {}
                Ok((waiting, dead)) => left.push(format!("{waiting} {topic} wait, {dead} are given up")),
                Err(error) => left.push(error.chain()),
            }
        }
        left
    }

    async fn depth(&self, queue: &Queue) -> Result<(u64, u64)> {
        queue.depth().await.map(|depth| (depth.messages, depth.dead))
    }
}
