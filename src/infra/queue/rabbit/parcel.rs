//! The form of a message in the broker.
//!
//! What it costs the broker to take a message, to keep it and to hand it out hardly depends on its size. So what is published
//! together, and goes the same way, shares one: a line for each, with its key before it. Whatever comes alone or is tried again
//! has one to itself, and what is suspected of killing its consumers is taken apart.

use std::{collections::BTreeMap, fmt::Write as _};

use lapin::{
    BasicProperties,
    message::Delivery as Incoming,
    types::{AMQPValue, FieldTable, LongString},
};
use tokio::time::Instant;

use super::{
    shelf::Held,
    topology::{LARGE, Topology, short},
};
use crate::infra::queue::{Message, Topic};

/// Header with the key of a single message.
const KEY: &str = "key";
/// Header with the number of attempts before, of a single message.
const ATTEMPTS: &str = "attempts";
/// Header with the number of messages that share one of the broker's.
const MESSAGES: &str = "messages";
/// Header with what the first publisher was doing.
const CAUSE: &str = "traceparent";

/// Messages that share one of the broker's: with more it costs no less.
const MOST: usize = 64;

/// A message of the broker with its address.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) content: Content<'a>,
    /// When it was first published, in Unix seconds.
    pub(super) published: u64,
    pub(super) cause: Option<&'a str>,
}

/// What is in it.
#[derive(Debug)]
pub(super) enum Content<'a> {
    One { key: &'a str, body: &'a str, attempts: u32 },
    Several { count: usize, lines: String },
}

impl Parcel<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::One { body, .. } => body.as_bytes(),
            Content::Several { lines, .. } => lines.as_bytes(),
        }
    }

    pub(super) fn properties(&self) -> BasicProperties {
        const PERSISTENT: u8 = 2;
        let mut headers = FieldTable::default();
        let content_type = match &self.content {
            Content::One { key, attempts, .. } => {
                headers.insert(short(KEY), AMQPValue::LongString(LongString::from(*key)));
                headers.insert(short(ATTEMPTS), AMQPValue::LongLongInt((*attempts).into()));
                "application/json"
            }
            Content::Several { count, .. } => {
                headers.insert(short(MESSAGES), AMQPValue::LongLongInt(i64::try_from(*count).unwrap_or(i64::MAX)));
                "text/plain"
            }
        };
        if let Some(cause) = self.cause {
            headers.insert(short(CAUSE), AMQPValue::LongString(LongString::from(cause)));
        }
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(short(content_type))
            .with_timestamp(self.published)
            .with_headers(headers)
    }
}

/// As few parcels as hold these messages; those of one partition keep their order.
pub(super) fn pack<'a>(
    topology: &Topology,
    topic: Topic,
    messages: &'a [Message],
    (published, cause): (u64, Option<&'a str>),
) -> Vec<Parcel<'a>> {
    let mut ways: BTreeMap<String, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        ways.entry(topology.route(topic, &message.key, message.body.len())).or_default().push(message);
    }
    let mut parcels = Vec::new();
    for (routing_key, messages) in ways {
        let mut rest = messages.as_slice();
        while !rest.is_empty() {
            let (together, later) = rest.split_at(fitting(topic, rest));
            rest = later;
            let (exchange, routing_key) = (topology.exchange(), routing_key.clone());
            parcels.push(Parcel { exchange, routing_key, content: content(together), published, cause });
        }
    }
    parcels
}

/// How many of the first of them share a parcel. Where each takes long, none do: those that wait for it would be kept too long.
fn fitting(topic: Topic, messages: &[&Message]) -> usize {
    let mut bytes = 0;
    let together = messages.iter().take(MOST).take_while(|message| {
        bytes += message.key.len() + message.body.len() + 2;
        bytes <= LARGE && topic.has_series() && is_line(message)
    });
    together.count().max(1)
}

/// Whether it can be told from its neighbours.
fn is_line(message: &Message) -> bool {
    !message.key.contains([' ', '\n']) && !message.body.contains('\n')
}

fn content<'a>(messages: &[&'a Message]) -> Content<'a> {
    if let [message] = messages {
        return Content::One { key: &message.key, body: &message.body, attempts: 0 };
    }
    let mut lines = String::with_capacity(messages.iter().map(|m| m.key.len() + m.body.len() + 2).sum());
    for Message { key, body } in messages {
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "{key} {body}");
    }
    Content::Several { count: messages.len(), lines }
}

/// The messages in one of the broker's, none for what we have not published.
pub(super) fn unpack(incoming: &Incoming) -> Vec<Held> {
    let headers = incoming.properties.headers().as_ref().map(FieldTable::inner);
    let header = |name: &str| headers.and_then(|headers| headers.get(name));
    let cause = text(header(CAUSE)).map(str::to_owned);
    let (published, arrived) = (incoming.properties.timestamp().unwrap_or_default(), Instant::now());
    let held = |key: &str, body: &str, attempts| Held {
        key: key.to_owned(),
        body: body.to_owned(),
        attempts,
        published,
        arrived,
        cause: cause.clone(),
    };
    let Ok(body) = std::str::from_utf8(&incoming.data) else { return Vec::new() };
    if let (Some(key), Some(attempts)) = (text(header(KEY)), number(header(ATTEMPTS))) {
        return vec![held(key, body, attempts)];
    }
    let messages: Option<Vec<Held>> =
        body.split_terminator('\n').map(|line| line.split_once(' ').map(|(key, body)| held(key, body, 0))).collect();
    messages.filter(|messages| number(header(MESSAGES)) == u32::try_from(messages.len()).ok()).unwrap_or_default()
}

fn text(value: Option<&AMQPValue>) -> Option<&str> {
    let AMQPValue::LongString(text) = value? else { return None };
    std::str::from_utf8(text.as_bytes()).ok()
}

fn number(value: Option<&AMQPValue>) -> Option<u32> {
    let AMQPValue::LongLongInt(number) = value? else { return None };
    u32::try_from(*number).ok()
}

#[cfg(test)]
mod tests {
    use lapin::types::ShortString;
    use proptest::prelude::*;

    use super::*;

    fn topology() -> Topology {
        Topology { prefix: "p".to_owned(), partitions: 3, rungs: Vec::new(), delivery_limit: 20 }
    }

    /// What the broker hands out of what it was given.
    fn carried(parcel: &Parcel<'_>) -> Incoming {
        let name = ShortString::default;
        Incoming {
            data: parcel.bytes().to_vec(),
            properties: parcel.properties(),
            ..Incoming::mock(1, name(), name(), false, Vec::new())
        }
    }

    fn body() -> impl Strategy<Value = String> {
        prop_oneof!["[a \n\r\"]{0,9}", Just("x".repeat(3_000)), Just("y".repeat(70_000))]
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_in_the_order_of_each_key(
            texts in prop::collection::vec(("[ab\n ]{0,2}", body()), 0..200),
            has_series: bool,
        ) {
            let topic = if has_series { Topic::Records } else { Topic::Resyncs };
            let messages: Vec<Message> = texts.into_iter().map(|(key, body)| Message { key, body }).collect();
            let parcels = pack(&topology(), topic, &messages, (7, Some("cause")));
            let mut came: BTreeMap<(String, bool), Vec<String>> = BTreeMap::new();
            for parcel in &parcels {
                let held = unpack(&carried(parcel));
                prop_assert!(parcel.bytes().len() <= LARGE || held.len() == 1);
                prop_assert!(!held.is_empty() && (has_series || held.len() == 1));
                for held in held {
                    prop_assert_eq!((held.published, held.attempts, held.cause.as_deref()), (7, 0, Some("cause")));
                    let route = topology().route(topic, &held.key, held.body.len());
                    prop_assert_eq!(&route, &parcel.routing_key);
                    came.entry((held.key, held.body.len() > LARGE)).or_default().push(held.body);
                }
            }
            let mut sent: BTreeMap<(String, bool), Vec<String>> = BTreeMap::new();
            for Message { key, body } in messages {
                sent.entry((key, body.len() > LARGE)).or_default().push(body);
            }
            prop_assert_eq!(came, sent);
        }
    }
}
