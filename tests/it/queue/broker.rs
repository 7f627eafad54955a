//! RabbitMQ with names of its own for each test. The server is that of `TEST_AMQP_URL`, by default the one of this machine; a
//! test that finds none fails.

use std::time::Duration;

use gateway::infra::queue::{Broker, BrokerSettings, Topic};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

/// What this test has of the broker.
pub(crate) struct TestBroker {
    pub(crate) settings: BrokerSettings,
}

impl TestBroker {
    /// Nothing yet, under a new prefix.
    pub(crate) async fn new(url: String) -> Self {
        admin().await;
        let settings = BrokerSettings {
            url,
            prefix: format!("gw.test.{}", Uuid::now_v7().simple()),
            partitions: 4,
            prefetch: 2_000,
            rungs: vec![Duration::from_millis(50), Duration::from_millis(400), Duration::from_mins(1)],
            delivery_limit: 20,
            rebalance: Duration::from_millis(200),
        };
        Self { settings }
    }

    /// Connections of its own, as another process would have.
    pub(crate) async fn connect(&self) -> Broker {
        let broker = Broker::open(&self.settings).unwrap();
        broker.check().await.expect("the broker is there and takes the topology");
        broker
    }

    /// Puts a message among the dead letters: with a key as those that consumers died of, without as nobody here would.
    pub(super) async fn bury(&self, topic: Topic, key: Option<&str>, body: &[u8]) {
        let (_connection, channel) = admin().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let mut properties = BasicProperties::default();
        if let Some(key) = key {
            let mut headers = FieldTable::default();
            headers.insert("key".into(), AMQPValue::LongString(key.into()));
            headers.insert("attempts".into(), AMQPValue::LongLongInt(0));
            properties = properties.with_headers(headers);
        }
        let exchange = format!("{}.dead", self.settings.prefix);
        let route = format!("bluesky.{}.0", topic.as_str());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = channel.basic_publish(exchange.as_str().into(), route.as_str().into(), options, body, properties);
        let confirmed = sent.await.unwrap().await.unwrap();
        assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
    }

    /// Deletes a queue by the end of its name.
    pub(crate) async fn delete(&self, end: &str) {
        let (_connection, channel) = admin().await;
        let name = format!("{}.bluesky.{end}", self.settings.prefix);
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Deletes everything.
    pub(crate) async fn discard(&self) {
        let (_connection, channel) = admin().await;
        let rungs: Vec<String> = self.settings.rungs.iter().map(|rung| format!("retry.{}", rung.as_millis())).collect();
        for topic in ["records", "resyncs"] {
            let partitions = (0..self.settings.partitions).map(|number| number.to_string());
            let others = ["large", "suspects", "dead", "presence", "wanting"].map(str::to_owned);
            for end in partitions.chain(rungs.iter().cloned()).chain(others) {
                let name = format!("{}.bluesky.{topic}.{end}", self.settings.prefix);
                channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
            }
        }
        let others = ["poison", "dead"].map(str::to_owned);
        let names = rungs.into_iter().chain(others).map(|end| format!("{}.{end}", self.settings.prefix));
        for name in names.chain([self.settings.prefix.clone()]) {
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }
}

/// Where the server is.
#[expect(clippy::disallowed_methods, reason = "where the tests' servers are is not a setting of the gateway")]
pub(crate) fn url() -> String {
    let named = std::env::var("TEST_AMQP_URL").ok().filter(|value| !value.is_empty());
    named.unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// A connection of the test itself.
async fn admin() -> (Connection, Channel) {
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.expect(
        "a RabbitMQ server of version 3.10 or newer answers at TEST_AMQP_URL, by default on port 5672 of this machine",
    );
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}
