//! What kills whoever takes it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gateway::infra::queue::{DeadLetter, Queue, Settlement, Topic};

use super::{
    broker::{self, TestBroker},
    place::{PATIENCE, Place, bodies, is_empty, message, on_each_queue_and, settle, take},
};

/// How often a consumer of the broker may be lost here: each time costs connections.
const LIMIT: u32 = 2;

async fn broker() -> TestBroker {
    let mut broker = TestBroker::new(broker::url()).await;
    (broker.settings.partitions, broker.settings.delivery_limit) = (1, LIMIT);
    broker
}

/// Consumers that take what there is, one after the other: each dies of the poison, with all that it holds.
struct Village<'a> {
    place: &'a Place,
    queue: Queue,
    deaths: i32,
    done: BTreeSet<String>,
}

impl<'a> Village<'a> {
    async fn on(place: &'a Place) -> Self {
        Self { place, queue: place.open(Topic::Records).await, deaths: 0, done: BTreeSet::new() }
    }

    /// Until the poison is dead, and so many others are done.
    async fn live(&mut self, others: usize) {
        let started = Instant::now();
        while self.queue.depth().await.unwrap().dead == 0 || self.done.len() < others {
            assert!(started.elapsed() < PATIENCE, "{} consumers died; done are {:?}", self.deaths, self.done);
            let batch = self.queue.receive(10).await.unwrap();
            if batch.is_empty() {
                self.queue.wait().await;
            } else if batch.iter().any(|delivery| delivery.body == "poison") {
                self.deaths += 1;
                self.queue = self.place.open_after(Topic::Records, self.deaths).await;
            } else {
                self.done.extend(batch.iter().map(|delivery| delivery.body.clone()));
                settle(&self.queue, batch, Settlement::Ack).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_its_consumers_becomes_a_dead_letter_and_nothing_beside_it_does() {
    on_each_queue_and(broker().await, async |place| {
        let mut village = Village::on(place).await;
        let names = ["a", "b", "poison", "c", "d"];
        // Of one key: what comes behind the poison is not held up by it for ever.
        let key = |name| if name == "d" { "poison" } else { name };
        village.queue.publish(&names.map(|name| message(key(name), name))).await.unwrap();
        village.live(4).await;
        assert_eq!(village.queue.depth().await.unwrap().dead, 1);
        assert_eq!(village.done, BTreeSet::from(["a", "b", "c", "d"].map(str::to_owned)));
        assert!(village.deaths > 4, "twice in company and twice alone it is spared: {}", village.deaths);

        // Nobody is handed it any more, not even much later; and it comes to whoever asks for letters until it is forgotten.
        let letter = DeadLetter { body: "poison".to_owned(), is_ours: true };
        for round in 0..4 {
            village.deaths += 1;
            let queue = place.open_after(Topic::Records, village.deaths).await;
            assert!(is_empty(&queue).await);
            let started = Instant::now();
            let dead = loop {
                // A broker learns a moment later that it was given back.
                let dead = queue.dead_letters(9).await.unwrap();
                if !dead.letters.is_empty() {
                    break dead;
                }
                assert!(started.elapsed() < PATIENCE, "the letter is gone");
                queue.wait().await;
            };
            assert_eq!(dead.letters, std::slice::from_ref(&letter));
            assert!(queue.dead_letters(9).await.unwrap().letters.is_empty(), "two have it");
            if round == 3 {
                dead.forget().await.unwrap();
            }
        }
        let later = place.open_after(Topic::Records, village.deaths + 1).await;
        assert!(later.dead_letters(9).await.unwrap().letters.is_empty());
        assert_eq!(later.depth().await.unwrap().dead, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_clears_of_suspicion() {
    on_each_queue_and(broker().await, async |place| {
        place.open(Topic::Records).await.publish(&[message("a", "unlucky")]).await.unwrap();
        for deaths in 0..100 {
            let queue = place.open_after(Topic::Records, deaths).await;
            let held = take(&queue, 1).await;
            assert_eq!(bodies(&held), ["unlucky"]);
            // One that would be a dead letter long since is none: again and again somebody survives it.
            if deaths % 2 == 1 {
                settle(&queue, held, Settlement::Retry(Duration::ZERO)).await;
            }
            if deaths > 14 && matches!(place, Place::Broker(_)) {
                break;
            }
        }
    })
    .await;
}
