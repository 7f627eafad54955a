//! What has to be as before, soon after a server is back or a process was started again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use entities::{identity, source_record};
use gateway::{domain::change::Cursor, infra::db::Db};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::time::timeout;

use super::{Fault, LOOK, SOON, fleet::Role, servers::Kind, source::Round, subscriber::Subscriber, world::World};
use crate::{oracle::model::author, support::feed::Feed};

/// Who leads the sweeps may have died: its lock lasts for 10 s, and the others look every 3 s.
const SUCCESSION: Duration = Duration::from_secs(20);
/// The channel of Redis on which the replicas of the API listen for news of the change log.
const BELL: &str = "openmeet:bell:changes";
/// Up to where a firehose has handed its stream to the queue.
const CURSOR: &str = "gateway_stream_cursor{";

/// The moment from which on time counts, and how things stood then.
pub(super) struct Since {
    at: Instant,
    /// Changes that each subscriber had heard of.
    heard: Vec<usize>,
    /// The last of them, of the first subscriber.
    cursor: Option<Cursor>,
}

impl Since {
    pub(super) fn now(subscribers: &[Subscriber]) -> Self {
        let at = Instant::now();
        let heard = subscribers.iter().map(|subscriber| subscriber.heard.lock().unwrap().changes.len()).collect();
        let cursor = subscribers[0].heard.lock().unwrap().changes.last().map(|last| last.cursor);
        Self { at, heard, cursor }
    }

    fn left(&self, within: Duration) -> Duration {
        within.saturating_sub(self.at.elapsed())
    }

    /// Waits until nothing is missing.
    async fn until(&self, within: Duration, missing: impl AsyncFn() -> Vec<String>) -> Result<(), String> {
        loop {
            let missing = missing().await;
            if missing.is_empty() {
                return Ok(());
            }
            if self.at.elapsed() >= within {
                return Err(format!("not so within {within:?}:\n{}", missing.join("\n")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl World {
    /// Waits until every part does its work again; how long records took for that. Of those that the round calls fresh one is in
    /// each partition.
    pub(super) async fn goes_on(&self, db: &Db, round: &Round, fault: Fault, since: &Since) -> Duration {
        let fresh = &round.fresh;
        let outcome = async {
            since.until(SOON, async || uncommitted(db, fresh).await).await?;
            let took = since.at.elapsed();
            since.until(SOON, async || self.fleet.unready().await).await?;
            since.until(SOON, async || self.broker.unconsumed().await).await?;
            since.until(SOON, async || self.unpublished(round.fresh_to).await).await?;
            since.until(SOON, async || self.unheard(fresh, since)).await?;
            since.until(SOON, async || self.unserved(fresh, since, SOON).await).await?;
            since.until(SOON, async || self.unlistened().await).await?;
            since.until(SOON, async || unidentified(db, fresh).await).await?;
            since.until(SUCCESSION, async || self.leaderless().await).await?;
            Ok::<_, String>(took)
        };
        outcome.await.unwrap_or_else(|missing| panic!("{fault}: {missing}"))
    }

    /// Subscribers who have not heard of all of it.
    fn unheard(&self, fresh: &BTreeSet<String>, since: &Since) -> Vec<String> {
        let unheard = |(number, subscriber): (usize, &Subscriber)| {
            let heard = subscriber.heard.lock().unwrap();
            let new: BTreeSet<&str> = heard.changes[since.heard[number]..].iter().map(|c| c.uri.as_str()).collect();
            let missing = fresh.iter().filter(|uri| !new.contains(uri.as_str())).count();
            (missing > 0).then(|| format!("subscriber {number} has not heard of {missing} new events"))
        };
        self.subscribers.iter().enumerate().filter_map(unheard).collect()
    }

    /// Replicas of the API that do not tell somebody who resumes there of all of it.
    async fn unserved(&self, fresh: &BTreeSet<String>, since: &Since, within: Duration) -> Vec<String> {
        let addresses = self.fleet.addresses().lock().unwrap().clone();
        let mut unserved = Vec::new();
        for address in &addresses {
            let tells = timeout(since.left(within), tells_of(address, since.cursor, fresh)).await;
            if !tells.is_ok_and(|told| told) {
                unserved.push(format!("the replica at {address} does not tell of all new events"));
            }
        }
        unserved
    }

    /// Whether Redis carries what one process tells the others.
    async fn unlistened(&self) -> Vec<String> {
        let replicas = self.fleet.addresses().lock().unwrap().len();
        let is_heard = self.servers.look_at(Kind::Redis).is_heard_by(replicas, BELL).await;
        if is_heard { Vec::new() } else { vec!["not every replica listens on Redis".to_owned()] }
    }

    /// Firehoses that have not come so far.
    #[expect(clippy::cast_precision_loss, reason = "figures of metrics are floats, and positions have less digits")]
    async fn unpublished(&self, to: i64) -> Vec<String> {
        let cursors = self.fleet.figures(Role::Firehose, CURSOR).await;
        let behind = cursors.into_iter().filter(|(_, cursor)| *cursor < to as f64);
        behind.map(|(number, cursor)| format!("firehose {number} is at {cursor} instead of {to}")).collect()
    }

    /// Of the sweeps, one leads.
    async fn leaderless(&self) -> Vec<String> {
        let leads = self.fleet.figures(Role::Sweep, "gateway_leader{work=\"sweep\"}").await;
        let leaders = leads.iter().map(|(_, leads)| leads).sum::<f64>();
        if (leaders - 1.0).abs() < 0.5 { Vec::new() } else { vec![format!("{leaders} lead the sweeps")] }
    }
}

async fn uncommitted(db: &Db, fresh: &BTreeSet<String>) -> Vec<String> {
    let found = source_record::Entity::find().filter(source_record::Column::Uri.is_in(fresh));
    let found: BTreeSet<String> = found.all(db.read()).await.unwrap().into_iter().map(|row| row.uri).collect();
    fresh.difference(&found).map(|uri| format!("{uri} is not committed")).collect()
}

/// Accounts that no sweep has asked the directory about.
async fn unidentified(db: &Db, fresh: &BTreeSet<String>) -> Vec<String> {
    let known = identity::Entity::find().filter(identity::Column::Did.is_in(fresh.iter().map(|uri| author(uri))));
    let known = known.all(db.read()).await.unwrap();
    known.iter().filter(|row| row.checked_at.is_none()).map(|row| format!("{} is not looked up", row.did)).collect()
}

async fn tells_of(address: &str, after: Option<Cursor>, fresh: &BTreeSet<String>) -> bool {
    let Ok(mut feed) = Feed::open(address, after).await else { return false };
    let mut missing = fresh.clone();
    while !missing.is_empty() {
        let Some(Ok(change)) = feed.next().await else { return false };
        missing.remove(&change.uri);
    }
    true
}
