//! What exists in the broker, as data: names, arguments, and what leads where.
//!
//! With the prefix `community.lexicon.calendar`, for each topic of a source (here `bluesky.records`):
//!
//! ```text
//! community.lexicon.calendar ──bluesky.records.N──▶ ….bluesky.records.N   one of the partitions, or `large`;
//!          ▲                                          │                    one active consumer each
//!          │                                          │ a consumer died of it too often
//!          │                                          ▼
//!          │   ….poison ──▶ ….bluesky.records.suspects   handed out one at a time
//!          │                                          │ died of it again and again
//!          │                                          ▼
//!          │   ….dead ──▶ ….bluesky.records.dead      taken into the failure list
//!          └── after its time ── ….bluesky.records.retry.MS ◀── ….retry.MS   a rung of the ladder of pauses
//! ```
//!
//! A message keeps its routing key on all these ways, so it comes back to its partition. Every queue is a quorum queue, and
//! dead-lettering is at-least-once: nothing is lost between two of them. Names carry what can be configured: a changed ladder
//! makes new queues, and the old rungs empty themselves.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::infra::queue::Topic;

/// Whose records these are: the first part of a routing key. A further source that comes over the queue is a further value
/// here, with queues of its own.
const SOURCE: &str = "bluesky";

/// Bytes from which on a message counts as large.
pub(super) const LARGE: usize = 64 << 10;
/// The end of the name of their queue, and of its routing key.
const LARGE_ONES: &str = "large";

/// What a deployment chooses of the topology.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    pub(super) prefix: String,
    pub(super) partitions: u16,
    /// Pauses, ascending.
    pub(super) rungs: Vec<Duration>,
    pub(super) delivery_limit: u32,
}

/// The partition of a key, of so many. The same for every process and for ever, since it depends on nothing else: FNV-1a with
/// 64 bits, modulo that number.
pub fn partition_of(key: &str, partitions: u16) -> u64 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash % u64::from(partitions.max(1))
}

/// A queue with what is routed to it.
#[derive(Debug)]
struct Plan {
    name: String,
    /// Exchange and pattern.
    binding: Option<(String, String)>,
    arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug)]
enum Argument {
    Text(String),
    Number(i64),
    Yes,
}

impl Topology {
    /// The exchange that messages are published to.
    pub(super) fn exchange(&self) -> String {
        self.prefix.clone()
    }

    /// The exchange behind which a message waits: of the first rung that is long enough, else of the last.
    pub(super) fn retry(&self, pause: Duration) -> String {
        let rung = self.rungs.iter().find(|rung| **rung >= pause).or(self.rungs.last());
        rung.map_or_else(|| self.exchange(), |rung| self.rung(*rung))
    }

    /// The exchange of messages that are given up.
    fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The exchange of what consumers seem to die of.
    pub(super) fn poison(&self) -> String {
        format!("{}.poison", self.prefix)
    }

    fn rung(&self, rung: Duration) -> String {
        format!("{}.retry.{}", self.prefix, rung.as_millis())
    }

    /// The routing key of a message: its partition.
    ///
    /// Those of a large one have a queue of their own, whatever the key: the broker bounds what a consumer holds by number
    /// only, and that number is chosen for the messages that there are, of a kilobyte or two.
    pub(super) fn route(&self, topic: Topic, key: &str, bytes: usize) -> String {
        if bytes > LARGE {
            return format!("{SOURCE}.{}.{LARGE_ONES}", topic.as_str());
        }
        format!("{SOURCE}.{}.{}", topic.as_str(), partition_of(key, self.partitions))
    }

    fn queue(&self, topic: Topic, end: &str) -> String {
        format!("{}.{SOURCE}.{}.{end}", self.prefix, topic.as_str())
    }

    /// The queue of the n-th partition, which a former configuration may have had more of.
    pub(super) fn partition(&self, topic: Topic, number: u16) -> String {
        self.queue(topic, &number.to_string())
    }

    /// The queue of messages that are large.
    pub(super) fn large(&self, topic: Topic) -> String {
        self.queue(topic, LARGE_ONES)
    }

    /// The queue of messages that consumers seem to die of.
    pub(super) fn suspects(&self, topic: Topic) -> String {
        self.queue(topic, "suspects")
    }

    /// The queue that never holds a message: its consumers are the processors there are.
    pub(super) fn presence(&self, topic: Topic) -> String {
        self.queue(topic, "presence")
    }

    /// The same for the processors that have less to do than they should.
    pub(super) fn wanting(&self, topic: Topic) -> String {
        self.queue(topic, "wanting")
    }

    /// The queue of what is given up.
    pub(super) fn graveyard(&self, topic: Topic) -> String {
        self.queue(topic, "dead")
    }

    /// The queues in which messages of a topic wait.
    pub(super) fn waiting(&self, topic: Topic) -> Vec<String> {
        let partitions = (0..self.partitions).map(|number| self.partition(topic, number));
        let rungs = self.rungs.iter().map(|rung| self.rung_queue(topic, *rung));
        partitions.chain(rungs).chain([self.large(topic), self.suspects(topic)]).collect()
    }

    fn rung_queue(&self, topic: Topic, rung: Duration) -> String {
        self.queue(topic, &format!("retry.{}", rung.as_millis()))
    }

    fn exchanges(&self) -> Vec<String> {
        let rungs = self.rungs.iter().map(|rung| self.rung(*rung));
        [self.exchange(), self.poison(), self.dead()].into_iter().chain(rungs).collect()
    }

    fn queues(&self, topic: Topic) -> Vec<Plan> {
        let all = format!("{SOURCE}.{}.#", topic.as_str());
        let limit = Argument::Number(self.delivery_limit.into());
        let one_consumer = ("x-single-active-consumer", Argument::Yes);
        // At-least-once asks for refusing instead of dropping; without a length nothing is ever refused.
        let leads_to = |exchange: String| {
            [
                ("x-dead-letter-exchange", Argument::Text(exchange)),
                ("x-dead-letter-strategy", Argument::Text("at-least-once".to_owned())),
                ("x-overflow", Argument::Text("reject-publish".to_owned())),
            ]
        };
        let ends = (0..self.partitions).map(|number| number.to_string()).chain([LARGE_ONES.to_owned()]);
        let mut plans: Vec<Plan> = ends
            .map(|end| Plan {
                name: self.queue(topic, &end),
                binding: Some((self.exchange(), format!("{SOURCE}.{}.{end}", topic.as_str()))),
                arguments: [one_consumer.clone(), ("x-delivery-limit", limit.clone())]
                    .into_iter()
                    .chain(leads_to(self.poison()))
                    .collect(),
            })
            .collect();
        plans.extend(self.rungs.iter().map(|rung| {
            Plan {
                name: self.rung_queue(topic, *rung),
                binding: Some((self.rung(*rung), all.clone())),
                arguments: [("x-message-ttl", Argument::Number(i64::try_from(rung.as_millis()).unwrap_or(i64::MAX)))]
                    .into_iter()
                    .chain(leads_to(self.exchange()))
                    .collect(),
            }
        }));
        plans.push(Plan {
            name: self.suspects(topic),
            binding: Some((self.poison(), all.clone())),
            arguments: [one_consumer, ("x-delivery-limit", limit)].into_iter().chain(leads_to(self.dead())).collect(),
        });
        // RabbitMQ 4 would throw a letter away that was taken some times and given back.
        let taken = ("x-delivery-limit", Argument::Number(i32::MAX.into()));
        plans.push(Plan { name: self.graveyard(topic), binding: Some((self.dead(), all)), arguments: vec![taken] });
        let counters = [self.presence(topic), self.wanting(topic)];
        plans.extend(counters.map(|name| Plan { name, binding: None, arguments: Vec::new() }));
        plans
    }

    /// Brings the broker to what stands here; what is there already is left alone. A queue that has other arguments is an
    /// error.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        for name in self.exchanges() {
            channel.exchange_declare(short(&name), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        }
        for plan in Topic::ALL.into_iter().flat_map(|topic| self.queues(topic)) {
            let name = short(&plan.name);
            channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), plan.table()).await?;
            if let Some((exchange, pattern)) = &plan.binding {
                let options = QueueBindOptions::default();
                channel.queue_bind(name, short(exchange), short(pattern), options, FieldTable::default()).await?;
            }
        }
        Ok(())
    }
}

impl Plan {
    fn table(&self) -> FieldTable {
        let kind = ("x-queue-type", Argument::Text("quorum".to_owned()));
        let arguments = self.arguments.iter().chain([&kind]);
        let table = arguments.map(|(name, argument)| {
            let value = match argument {
                Argument::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
                Argument::Yes => AMQPValue::Boolean(true),
            };
            (short(name), value)
        });
        FieldTable::from(table.collect::<BTreeMap<_, _>>())
    }
}

/// A name for the protocol, which allows 255 bytes. The configuration bounds the prefix, so nothing is ever cut here.
pub(super) fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(partitions: u16) -> Topology {
        let rungs = [1, 10].map(Duration::from_secs).to_vec();
        Topology { prefix: "p".to_owned(), partitions, rungs, delivery_limit: 20 }
    }

    /// Another result would move every key of a running deployment to another partition.
    #[test]
    fn the_partition_of_a_key_never_changes() {
        let topology = topology(8);
        assert_eq!(topology.route(Topic::Records, "", 0), "bluesky.records.5");
        assert_eq!(topology.route(Topic::Resyncs, "a", 0), "bluesky.resyncs.4");
        assert_eq!(topology.route(Topic::Records, "foobar", LARGE), "bluesky.records.0");
    }

    #[test]
    fn what_is_large_has_a_queue_of_its_own() {
        let topology = topology(8);
        let routes = ["a", "b"].map(|key| topology.route(Topic::Records, key, LARGE + 1));
        assert_eq!(routes, ["bluesky.records.large", "bluesky.records.large"]);
        let plans = topology.queues(Topic::Records);
        let plan = plans.iter().find(|plan| plan.name == topology.large(Topic::Records)).unwrap();
        assert_eq!(plan.binding, Some(("p".to_owned(), "bluesky.records.large".to_owned())));
    }

    #[test]
    fn keys_spread_over_the_partitions() {
        let topology = topology(8);
        let mut counts = BTreeMap::<String, u32>::new();
        for number in 0..8_000 {
            *counts.entry(topology.route(Topic::Records, &format!("did:plc:{number:024}"), 9)).or_default() += 1;
        }
        assert!(counts.len() == 8 && counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_pause_is_rounded_up_to_a_rung() {
        let topology = topology(1);
        let exchange = |millis| topology.retry(Duration::from_millis(millis));
        assert_eq!(exchange(0), "p.retry.1000");
        assert_eq!(exchange(1_001), "p.retry.10000");
        assert_eq!(exchange(3_600_000), "p.retry.10000");
    }
}
