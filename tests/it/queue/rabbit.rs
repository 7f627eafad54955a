//! What only a broker can do wrong.

use std::{
    collections::{BTreeSet, HashSet},
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use gateway::{
    error::{Class, Error},
    infra::{
        clock::Clock,
        queue::{Broker, BrokerSettings, DeadLetter, Queue, Settlement, Topic},
    },
};

use super::{
    broker::{self, TestBroker},
    place::{PATIENCE, bodies, is_empty, message, settle, take},
};
use crate::support::proxy::Proxy;

/// Runs the test and deletes what it made even when it fails.
pub(super) async fn with(broker: TestBroker, test: impl AsyncFnOnce(&TestBroker)) {
    let outcome = AssertUnwindSafe(test(&broker)).catch_unwind().await;
    broker.discard().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn open(broker: &TestBroker) -> Queue {
    Queue::rabbit(&broker.connect().await, Clock::system(), Topic::Records)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_connections_are_cut() {
    let proxy = Proxy::before(&broker::url()).await;
    let mut broker = TestBroker::new(proxy.url()).await;
    // Being cut off is no crime here.
    broker.settings.delivery_limit = 1_000;
    with(broker, async |broker| {
        const ROUNDS: usize = 40;
        let queue = open(broker).await;
        let started = Instant::now();
        let publishing = async {
            for round in 0..ROUNDS {
                let messages: Vec<_> = (0..25).map(|n| message(&format!("key {n}"), &format!("{round}/{n}"))).collect();
                // As the firehose does: what is not confirmed is published again.
                while let Err(error) = queue.publish(&messages).await {
                    assert_eq!(error.class(), Class::System, "{}", error.chain());
                    assert!(started.elapsed() < PATIENCE * 2, "{}", error.chain());
                    queue.wait().await;
                }
                if round % 5 == 2 {
                    proxy.cut();
                }
            }
        };
        let consuming = async {
            let mut done = HashSet::new();
            let mut batches = 0;
            while done.len() < ROUNDS * 25 {
                assert!(started.elapsed() < PATIENCE * 2, "{} messages came", done.len());
                let batch = queue.receive(30).await.unwrap();
                if batch.is_empty() {
                    queue.wait().await;
                    continue;
                }
                batches += 1;
                if batches % 10 == 5 {
                    // With deliveries in hand, whose acknowledgements must go nowhere then.
                    proxy.cut();
                }
                done.extend(batch.iter().map(|delivery| delivery.body.clone()));
                settle(&queue, batch, Settlement::Ack).await;
            }
        };
        tokio::join!(publishing, consuming);
        // Second copies may be left; then there is nothing, neither waiting nor dead nor taken for done and kept.
        loop {
            assert!(started.elapsed() < PATIENCE * 3, "the queue does not become empty");
            let rest = queue.receive(100).await.unwrap();
            if rest.is_empty() && queue.depth().await.is_ok_and(|depth| depth.messages == 0) {
                break;
            }
            settle(&queue, rest, Settlement::Ack).await;
            queue.wait().await;
        }
        assert_eq!(queue.depth().await.unwrap().dead, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_a_lost_connection_acknowledges_nothing() {
    let proxy = Proxy::before(&broker::url()).await;
    let mut broker = TestBroker::new(proxy.url()).await;
    broker.settings.partitions = 1;
    with(broker, async |broker| {
        let queue = open(broker).await;
        queue.publish(&[message("a", "first"), message("b", "second")]).await.unwrap();
        let mut old = take(&queue, 2).await;
        proxy.cut();
        // A third message shows when the new connection delivers; by then the first two have come again.
        let started = Instant::now();
        while queue.publish(&[message("c", "third")]).await.is_err() {
            assert!(started.elapsed() < PATIENCE);
            queue.wait().await;
        }
        let third = take(&queue, 1).await;
        assert_eq!(bodies(&third), ["third"], "the others are still being worked on");
        settle(&queue, vec![old.remove(0)], Settlement::Ack).await;
        settle(&queue, old, Settlement::Retry(Duration::ZERO)).await;
        let again = take(&queue, 2).await;
        assert_eq!(bodies(&again), ["first", "second"]);
        settle(&queue, again, Settlement::Ack).await;
        settle(&queue, third, Settlement::Ack).await;
        assert!(is_empty(&queue).await);
        // A message of a lost connection is not tried once more: it has come again.
        assert_eq!(queue.depth().await.unwrap().messages, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_an_error_and_the_topology_is_mended() {
    let mut broker = TestBroker::new(broker::url()).await;
    broker.settings.partitions = 1;
    with(broker, async |broker| {
        let queue = open(broker).await;
        queue.publish(&[message("a", "1")]).await.unwrap();
        let first = take(&queue, 1).await;
        settle(&queue, first, Settlement::Ack).await;
        drop(queue);
        // Nobody consumes now, who would notice.
        let queue = open(broker).await;
        broker.delete("records.0").await;
        let error = queue.publish(&[message("a", "2")]).await.unwrap_err();
        assert_eq!(error.class(), Class::System, "{}", error.chain());
        queue.publish(&[message("a", "2")]).await.unwrap();
        assert_eq!(bodies(&take(&queue, 1).await), ["2"]);
        // One who consumes notices, and mends it too.
        broker.delete("records.0").await;
        let started = Instant::now();
        while queue.publish(&[message("a", "3")]).await.is_err() {
            assert!(started.elapsed() < PATIENCE);
            queue.wait().await;
        }
    })
    .await;
}

/// More bytes than may be under way without a confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_publication_arrives_whole_and_in_order_but_for_what_is_large() {
    with(TestBroker::new(broker::url()).await, async |broker| {
        let queue = open(broker).await;
        let body = |n: usize| format!("{n} {}", "x".repeat(if n % 3 == 1 { 10 } else { 700_000 }));
        let sent: Vec<String> = (0..20).map(body).collect();
        queue.publish(&sent.iter().map(|body| message("a", body)).collect::<Vec<_>>()).await.unwrap();
        let started = Instant::now();
        let mut came = Vec::new();
        while came.len() < sent.len() {
            assert!(started.elapsed() < PATIENCE, "{} messages came", came.len());
            let batch = queue.receive(20).await.unwrap();
            if batch.is_empty() {
                queue.wait().await;
                continue;
            }
            came.extend(batch.iter().map(|delivery| delivery.body.clone()));
            settle(&queue, batch, Settlement::Ack).await;
        }
        // Those that are large are in a queue of their own, and in order there.
        for is_large in [false, true] {
            let kind =
                |bodies: &[String]| bodies.iter().filter(|body| (body.len() > 1_000) == is_large).cloned().collect();
            let (came, sent): (Vec<String>, Vec<String>) = (kind(&came), kind(&sent));
            assert!(came == sent, "{} messages came", came.len());
        }
    })
    .await;
}

/// The broker counts messages, not bytes.
#[tokio::test(flavor = "multi_thread")]
async fn few_large_messages_are_held_at_once_however_many_there_are() {
    with(TestBroker::new(broker::url()).await, async |broker| {
        let queue = open(broker).await;
        let body = |n: usize| format!("{n} {}", "x".repeat(100_000));
        let mut sent: Vec<String> = (0..30).map(body).collect();
        queue.publish(&sent.iter().map(|body| message(body, body)).collect::<Vec<_>>()).await.unwrap();
        let (started, mut came) = (Instant::now(), Vec::new());
        while came.len() < sent.len() {
            assert!(started.elapsed() < PATIENCE, "{} messages came", came.len());
            let batch = queue.receive(100).await.unwrap();
            assert!(queue.holding().messages <= 8, "{:?}", queue.holding());
            if batch.is_empty() {
                queue.wait().await;
                continue;
            }
            let mut settlements = Vec::new();
            for delivery in batch {
                // Those that are tried again stay what they are.
                let settlement =
                    if delivery.attempts > 0 { Settlement::Ack } else { Settlement::Retry(Duration::ZERO) };
                came.extend((settlement == Settlement::Ack).then(|| delivery.body.clone()));
                settlements.push((delivery, settlement));
            }
            queue.settle(settlements).await.unwrap();
        }
        sent.sort();
        came.sort();
        assert!(came == sent, "{} messages came", came.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_may_be_looked_at_however_often() {
    with(TestBroker::new(broker::url()).await, async |broker| {
        let queue = open(broker).await;
        broker.bury(Topic::Records, Some("a"), b"poison").await;
        let letter = DeadLetter { body: "poison".to_owned(), is_ours: true };
        // Far more often than RabbitMQ 4 would put up with by itself.
        for _ in 0..30 {
            let started = Instant::now();
            let letters = loop {
                // Given back when they are dropped, which the broker learns of a moment later.
                let dead = queue.dead_letters(9).await.unwrap();
                if !dead.letters.is_empty() {
                    break dead.letters.clone();
                }
                assert!(started.elapsed() < PATIENCE, "the letter is gone");
                queue.wait().await;
            };
            assert_eq!(letters, std::slice::from_ref(&letter));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_former_configuration_are_emptied() {
    with(TestBroker::new(broker::url()).await, async |broker| {
        let wanted: BTreeSet<String> = (0..40).map(|n| n.to_string()).collect();
        let messages: Vec<_> = wanted.iter().map(|body| message(&format!("key {body}"), body)).collect();
        open(broker).await.publish(&messages).await.unwrap();
        let settings = BrokerSettings { partitions: 1, ..broker.settings.clone() };
        let queue = open(&TestBroker { settings }).await;
        let found: BTreeSet<String> = bodies(&take(&queue, 40).await).into_iter().map(str::to_owned).collect();
        assert_eq!(found, wanted);
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_without_its_password() {
    let url = "amqp://user:secret@127.0.0.1:1/%2f".to_owned();
    let error = Broker::open(&BrokerSettings { url, ..BrokerSettings::default() }).unwrap().check().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { service: "broker", .. }), "{error:?}");
    let text = error.chain();
    assert!(text.contains("amqp://127.0.0.1:1") && !text.contains("secret"), "{text}");
}
