//! Somebody who follows the change log over whichever replica answers, leaves now and then, and always resumes after the last
//! delivery.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::task::AbortHandle;

use super::fleet::Addresses;
use crate::support::feed::{Feed, SeenChange};

/// Before a replica that has refused is asked again.
const LOOK: Duration = Duration::from_millis(50);

/// All that was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) changes: Vec<SeenChange>,
    pub(super) resumptions: usize,
    /// What was said that may not be said, whatever is away.
    pub(super) odd: Vec<String>,
}

/// The subscriber; it goes with the value.
pub(super) struct Subscriber {
    pub(super) heard: Arc<Mutex<Heard>>,
    task: AbortHandle,
}

impl Subscriber {
    pub(super) fn start(addresses: Addresses, seed: u64) -> Self {
        let heard = Arc::default();
        let task = tokio::spawn(follow(addresses, Rng::with_seed(seed), Arc::clone(&heard))).abort_handle();
        Self { heard, task }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(addresses: Addresses, mut rng: Rng, heard: Arc<Mutex<Heard>>) {
    loop {
        let address = addresses.lock().unwrap()[rng.usize(..2)].clone();
        let after = heard.lock().unwrap().changes.last().map(|last| last.cursor);
        match Feed::open(&address, after).await {
            Ok(feed) => listen(feed, rng.usize(20..400), &heard).await,
            Err(_) => tokio::time::sleep(LOOK).await,
        }
        heard.lock().unwrap().resumptions += 1;
    }
}

/// Takes so many deliveries, or as many as come.
async fn listen(mut feed: Feed, most: usize, heard: &Mutex<Heard>) {
    for _ in 0..most {
        match feed.next().await {
            Some(Ok(change)) => heard.lock().unwrap().changes.push(change),
            Some(Err(refusal)) => {
                let is_expected = refusal.contains("SERVICE_UNAVAILABLE") || refusal.contains(" 503 ");
                if !is_expected {
                    heard.lock().unwrap().odd.push(refusal);
                }
                return tokio::time::sleep(LOOK).await;
            }
            None => return,
        }
    }
}
