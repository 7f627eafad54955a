//! What a queue promises, held against each implementation: the table on SQLite and on PostgreSQL, and RabbitMQ.

pub(crate) mod broker;
mod dead;
mod place;
mod poison;
mod rabbit;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use gateway::infra::queue::{Delivery, Message, Queue, Settlement, Topic};

use self::place::{PATIENCE, bodies, is_empty, message, on_each_queue, settle, take};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_durable_when_publishing_returns() {
    on_each_queue(async |place| {
        let messages: Vec<_> = (0..500).map(|n| message(&format!("key {}", n % 7), &n.to_string())).collect();
        place.open(Topic::Records).await.publish(&messages).await.unwrap();
        // The handle is gone; this one has connections of its own.
        let deliveries = take(&place.open(Topic::Records).await, 500).await;
        let mut last = HashMap::new();
        for delivery in &deliveries {
            let number: i64 = delivery.body.parse().unwrap();
            assert_eq!(delivery.key, format!("key {}", number % 7));
            assert_eq!(delivery.attempts, 0);
            let earlier = last.insert(delivery.key.clone(), number).unwrap_or(-1);
            assert!(earlier < number, "{number} of {} came after {earlier}", delivery.key);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_consumers_of_any_speed_keep_the_order_of_each_key() {
    on_each_queue(async |place| {
        let seen = Seen::default();
        let mut consumers = Vec::new();
        for number in 0..3 {
            consumers.push((number, place.open(Topic::Records).await));
        }
        let publishing = async {
            let queue = place.open(Topic::Records).await;
            let started = Instant::now();
            let mut round = 0;
            // Until each of them had something to do, which takes a while where work has to move.
            while round < 20 || seen.consumers() < 3 {
                assert!(started.elapsed() < PATIENCE, "only {} of 3 consumers were handed anything", seen.consumers());
                let messages = (0..60).map(|n| message(&format!("key {}", n % 20), &format!("{}", round * 3 + n / 20)));
                queue.publish(&messages.collect::<Vec<_>>()).await.unwrap();
                round += 1;
                // The backlog is bounded, so that the end does not take longer than the test.
                while seen.count() + 300 < round * 60 {
                    assert!(started.elapsed() < PATIENCE, "nothing moves after {} messages", seen.count());
                    queue.wait().await;
                }
            }
            seen.expect(round * 60);
        };
        let consuming = join_all(consumers.iter().map(|(number, queue)| work(*number, queue, &seen)));
        tokio::join!(publishing, consuming);
        let expected = seen.expected.lock().unwrap().unwrap() / 20;
        for (key, numbers) in &*seen.numbers.lock().unwrap() {
            let wanted: Vec<usize> = (0..expected).collect();
            assert_eq!(*numbers, wanted, "{key}");
        }
    })
    .await;
}

/// Takes batches until everything was seen: works at a random speed, and now and then gives a whole batch back.
async fn work(consumer: usize, queue: &Queue, seen: &Seen) {
    let started = Instant::now();
    while !seen.is_complete() {
        assert!(started.elapsed() < PATIENCE, "{} messages were seen", seen.count());
        let batch = queue.receive(fastrand::u64(1..40)).await.unwrap();
        if batch.is_empty() {
            queue.wait().await;
            continue;
        }
        seen.begin(consumer, &batch);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..6))).await;
        let settlement = if fastrand::u8(..10) == 0 { Settlement::Release } else { Settlement::Ack };
        seen.end(&batch, settlement);
        settle(queue, batch, settlement).await;
    }
}

/// What the consumers were handed, all together.
#[derive(Default)]
struct Seen {
    numbers: Mutex<BTreeMap<String, Vec<usize>>>,
    busy: Mutex<HashSet<String>>,
    consumers: Mutex<HashSet<usize>>,
    expected: Mutex<Option<usize>>,
}

impl Seen {
    fn begin(&self, consumer: usize, batch: &[Delivery]) {
        let keys: HashSet<String> = batch.iter().map(|delivery| delivery.key.clone()).collect();
        self.consumers.lock().unwrap().insert(consumer);
        for key in keys {
            assert!(self.busy.lock().unwrap().insert(key.clone()), "{key} is being worked on by somebody else");
        }
    }

    fn end(&self, batch: &[Delivery], settlement: Settlement) {
        for delivery in batch {
            self.busy.lock().unwrap().remove(&delivery.key);
            if settlement == Settlement::Ack {
                let number = delivery.body.parse().unwrap();
                self.numbers.lock().unwrap().entry(delivery.key.clone()).or_default().push(number);
            }
        }
    }

    fn count(&self) -> usize {
        self.numbers.lock().unwrap().values().map(Vec::len).sum()
    }

    fn consumers(&self) -> usize {
        self.consumers.lock().unwrap().len()
    }

    fn expect(&self, count: usize) {
        *self.expected.lock().unwrap() = Some(count);
    }

    fn is_complete(&self) -> bool {
        self.expected.lock().unwrap().is_some_and(|expected| self.count() >= expected)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_back_after_its_pause_and_is_counted() {
    const PAUSE: Duration = Duration::from_millis(300);
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        queue.publish(&[message("a", "first")]).await.unwrap();
        for attempts in 0..3 {
            let deliveries = take(&queue, 1).await;
            assert_eq!((deliveries[0].attempts, &*deliveries[0].body), (attempts, "first"));
            let started = Instant::now();
            settle(&queue, deliveries, Settlement::Retry(PAUSE)).await;
            let again = take(&queue, 1).await;
            // Clocks of several hosts are involved.
            assert!(started.elapsed() > PAUSE.mul_f64(0.9), "{:?}", started.elapsed());
            settle(&queue, again, Settlement::Release).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_retry_holds_up_no_later_message_of_its_key() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        queue.publish(&[message("a", "1"), message("a", "2")]).await.unwrap();
        let first = take(&queue, 1).await;
        assert_eq!(bodies(&first), ["1"]);
        settle(&queue, first, Settlement::Retry(Duration::from_mins(1))).await;
        let second = take(&queue, 1).await;
        assert_eq!(bodies(&second), ["2"]);
        settle(&queue, second, Settlement::Ack).await;
        // It is there, though nobody is late with it.
        place.until_depth(&queue, 1).await;
        assert_eq!(queue.depth().await.unwrap().oldest, Some(Duration::ZERO));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_released_comes_back_as_if_nothing_had_been_however_often() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        queue.publish(&[message("a", "1"), message("a", "2")]).await.unwrap();
        // More often than a message may be lost before it counts as poison: an outage releases again and again.
        for _ in 0..30 {
            let deliveries = take(&queue, 2).await;
            assert_eq!(bodies(&deliveries), ["1", "2"]);
            assert!(deliveries.iter().all(|delivery| delivery.attempts == 0));
            settle(&queue, deliveries, Settlement::Release).await;
        }
        assert_eq!(queue.depth().await.unwrap().dead, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_dies_gives_back_what_it_had() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        for numbers in [0..4, 4..10] {
            queue.publish(&numbers.map(|n| message("a", &n.to_string())).collect::<Vec<_>>()).await.unwrap();
        }
        let mut deliveries = take(&queue, 10).await;
        let done = deliveries.drain(..4).collect();
        settle(&queue, done, Settlement::Ack).await;
        drop(queue);
        let heir = place.open_later(Topic::Records).await;
        assert_eq!(bodies(&take(&heir, 6).await), ["4", "5", "6", "7", "8", "9"]);
        drop(deliveries);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_never_comes_back() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        for body in ["done", "left"] {
            queue.publish(&[message(body, body)]).await.unwrap();
        }
        for delivery in take(&queue, 2).await {
            let settlement = if delivery.body == "done" { Settlement::Ack } else { Settlement::Release };
            settle(&queue, vec![delivery], settlement).await;
        }
        drop(queue);
        let heir = place.open_later(Topic::Records).await;
        let left = take(&heir, 1).await;
        assert_eq!(bodies(&left), ["left"]);
        settle(&heir, left, Settlement::Ack).await;
        assert!(is_empty(&heir).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_know_nothing_of_each_other() {
    on_each_queue(async |place| {
        let (records, resyncs) = (place.open(Topic::Records).await, place.open(Topic::Resyncs).await);
        records.publish(&[message("a", "record")]).await.unwrap();
        resyncs.publish(&[message("a", "resync")]).await.unwrap();
        assert_eq!(bodies(&take(&resyncs, 1).await), ["resync"]);
        assert_eq!(bodies(&take(&records, 1).await), ["record"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_work_on_a_key_is_done_once_at_a_time_and_holds_up_no_other_key() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Resyncs).await;
        let messages: Vec<Message> =
            [("a", "a1"), ("a", "a2"), ("b", "b1")].map(|(key, body)| message(key, body)).into();
        queue.publish(&messages).await.unwrap();
        let mut first = take(&queue, 2).await;
        first.sort_by(|one, other| one.body.cmp(&other.body));
        assert_eq!(bodies(&first), ["a1", "b1"]);
        assert!(queue.receive(9).await.unwrap().is_empty());
        settle(&queue, first, Settlement::Ack).await;
        assert_eq!(bodies(&take(&queue, 1).await), ["a2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_depth_is_what_is_not_done() {
    on_each_queue(async |place| {
        let queue = place.open(Topic::Records).await;
        // One by one: the broker does not tell how many were published together.
        for n in 0..5 {
            queue.publish(&[message(&n.to_string(), "x")]).await.unwrap();
        }
        place.until_depth(&queue, 5).await;
        let mut deliveries = take(&queue, 5).await;
        // Counted once, whether they are in the hands of a consumer or not.
        place.until_depth(&queue, 5).await;
        let depth = queue.depth().await.unwrap();
        assert_eq!(depth.held, queue.holding().messages, "{depth:?}");
        settle(&queue, deliveries.drain(..1).collect(), Settlement::Ack).await;
        settle(&queue, deliveries.drain(..1).collect(), Settlement::Retry(Duration::from_mins(1))).await;
        place.until_depth(&queue, 4).await;
    })
    .await;
}
