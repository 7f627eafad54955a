//! What is so when nothing more comes: the tables are what the oracle says, nothing was put aside but what cannot be read, the
//! queue is empty, and everybody has seen all changes.

use std::{collections::BTreeSet, time::Instant};

use entities::ingest_failure;
use gateway::{domain::tenant::Tenant, infra::db::Db};
use sea_orm::{AccessMode, ConnectionTrait, EntityTrait, IsolationLevel, TransactionTrait};
use serde_json::Value;

use super::{LOOK, PATIENCE, world::World};
use crate::{
    oracle::model::{State, faults_of_log},
    support::feed::logged,
};

impl World {
    /// Waits until it is so.
    pub(super) async fn settle(&mut self, db: &Db) {
        let begun = Instant::now();
        let mut differences = vec!["nothing was looked at".to_owned()];
        while !differences.is_empty() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK * 4).await;
            differences = self.broker.left().await;
            if differences.is_empty() {
                differences = self.differences(db).await;
            }
        }
        let wrong = faults_of_log(db).await;
        let logged = logged(db.read(), Tenant::default(db.read()).await.unwrap()).await;
        while self.subscribers.iter().any(|s| s.heard.lock().unwrap().changes.len() < logged.len())
            && begun.elapsed() < PATIENCE
        {
            tokio::time::sleep(LOOK).await;
        }
        (self.report.lost, self.report.doubled) = (differences.len(), wrong.len());
        (self.report.changes, self.report.resumptions) = (logged.len(), 0);
        let mut odd = Vec::new();
        for subscriber in &self.subscribers {
            let heard = subscriber.heard.lock().unwrap();
            let again = heard.changes.windows(2).filter(|pair| pair[0].cursor >= pair[1].cursor).count();
            self.report.resumptions += heard.resumptions;
            self.report.doubled += again;
            self.report.lost += (logged.len() + again).saturating_sub(heard.changes.len());
            odd.extend(heard.odd.clone());
            if heard.changes != logged {
                odd.push(format!("{} of {} changes were seen", heard.changes.len(), logged.len()));
            }
        }
        let found: Vec<String> = differences.into_iter().chain(wrong).chain(odd).take(10).collect();
        assert!(found.is_empty(), "{}\n{}", self.report, found.join("\n"));
    }

    /// Where the tables differ from what is expected.
    async fn differences(&mut self, db: &Db) -> Vec<String> {
        // One snapshot, as long as somebody writes.
        let options = (Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly));
        let snapshot = db.pool().begin_with_config(options.0, options.1).await.unwrap();
        let mut differences = self.expected.differences(&State::stored(&snapshot).await);
        differences.extend(self.put_aside(&snapshot).await);
        snapshot.commit().await.unwrap();
        differences
    }

    /// What was put aside though it can be read, and what was not though it cannot.
    ///
    /// One that was overtaken before it came, or went with its account, may be among them or not.
    async fn put_aside(&mut self, db: &impl ConnectionTrait) -> Vec<String> {
        let aside = ingest_failure::Entity::find().all(db).await.unwrap();
        self.report.put_aside = aside.len();
        let is_expected = |row: &ingest_failure::Model| {
            let payload: Value = serde_json::from_str(&row.payload).unwrap_or_default();
            let rev = payload["commit"]["rev"].as_str().unwrap_or_default().to_owned();
            row.stage == "map" && self.unreadable.contains(&(row.uri.clone().unwrap_or_default(), rev))
        };
        let surprises = aside.iter().filter(|row| !is_expected(row));
        let surprises = surprises.map(|row| format!("put aside with {} at {}: {}", row.code, row.stage, row.payload));
        let held: BTreeSet<&str> = aside.iter().filter_map(|row| row.uri.as_deref()).collect();
        let is_newest = |uri: &str, rev: &str| self.expected.revision(uri) == Some(rev);
        let missing = self.unreadable.iter().filter(|(uri, rev)| is_newest(uri, rev) && !held.contains(uri.as_str()));
        surprises.chain(missing.map(|(uri, rev)| format!("not put aside: {uri} of {rev}"))).collect()
    }
}
