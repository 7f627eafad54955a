//! Batches are written beside each other, as far as they are about different things: what that leaves in the tables, the
//! histories of `oracle` show; here it is who waits for whom.

use std::sync::Arc;

use entities::event;
use fastrand::Rng;
use gateway::{
    domain::ingest::{LOCK, Outcome},
    infra::db::{Db, lock, lock_one_of},
};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use serde_json::json;
use tokio::{sync::Notify, task::JoinHandle};

use crate::support::{
    app::TestApp,
    database::{TestDb, postgres},
    records::{self, BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

/// A new event of the n-th account.
fn new_event(number: usize) -> String {
    let record = records::event(&mut Rng::with_seed(1), number, BEGINNING);
    let (did, rkey) = (did(1, number), tid(BEGINNING, 7));
    let version = (&*cid_of(&record.to_string()), &record);
    commit(&did, BEGINNING, &tid(BEGINNING, 1), EVENT, &rkey, Some(version))
}

fn uri_of_event(number: usize) -> String {
    uri(&did(1, number), EVENT, &tid(BEGINNING, 7))
}

/// An answer of one account to the event of another.
fn answer(guest: usize, number: usize) -> String {
    let record = json!({ "$type": RSVP, "status": format!("{RSVP}#going"),
        "subject": { "uri": uri_of_event(number), "cid": cid_of("") } });
    let version = (&*cid_of(&record.to_string()), &record);
    commit(&did(1, guest), BEGINNING, &tid(BEGINNING, 2), RSVP, &tid(BEGINNING, 9), Some(version))
}

/// A host says that the n-th account is not active.
fn deactivated(number: usize) -> String {
    let account = json!({ "active": false, "status": "deactivated", "time": "2025-06-15T16:00:00.000Z" });
    json!({ "did": did(1, number), "time_us": BEGINNING, "kind": "account", "account": account }).to_string()
}

/// A transaction of another process that is about this event, until it is told to end.
struct Other {
    end: Arc<Notify>,
    transaction: JoinHandle<()>,
}

impl Other {
    async fn begin(test: &TestDb, event: String) -> Self {
        let (db, begun, end) = (test.connect_again().await, Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (telling, told) = (Arc::clone(&begun), Arc::clone(&end));
        let transaction = tokio::spawn(async move {
            let work = db.transact(|tx| {
                let (event, telling, told) = (event.clone(), Arc::clone(&telling), Arc::clone(&told));
                async move {
                    lock_one_of(&*tx, &LOCK).await?;
                    lock(&*tx, &[event]).await?;
                    telling.notify_one();
                    told.notified().await;
                    Ok(())
                }
            });
            work.await.unwrap();
        });
        begun.notified().await;
        Self { end, transaction }
    }

    async fn end(self) {
        self.end.notify_one();
        self.transaction.await.unwrap();
    }
}

/// Returns when a transaction waits for another one.
async fn somebody_waits(db: &Db) {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    loop {
        let asked = Statement::from_string(DbBackend::Postgres, sql);
        let row = db.read().query_one_raw(asked).await.unwrap().unwrap();
        if row.try_get_by_index::<i64>(0).unwrap() > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_those_about_the_same_event_and_for_no_others() {
    let Some(test) = postgres().await else { return };
    let gateway = Arc::new(TestApp::open(&test).await);
    gateway.submit(&[new_event(0)]).await;
    let other = Other::begin(&test, uri_of_event(0)).await;

    // Nothing of these is about that event.
    let outcomes = gateway.submit(&[new_event(1), answer(2, 1)]).await;
    assert_eq!(outcomes, [Outcome::Applied { is_new: true }, Outcome::Applied { is_new: true }]);

    let waiting = Arc::clone(&gateway);
    let waiting = tokio::spawn(async move { waiting.submit(&[answer(3, 0)]).await });
    somebody_waits(&test.db).await;
    assert!(!waiting.is_finished());
    other.end().await;
    assert_eq!(waiting.await.unwrap(), [Outcome::Applied { is_new: true }]);
    let counts: Vec<i32> =
        event::Entity::find().all(test.db.read()).await.unwrap().iter().map(|event| event.confirmed_count).collect();
    assert_eq!(counts, [1, 1]);
    drop(gateway);
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_becomes_is_written_alone() {
    let Some(test) = postgres().await else { return };
    let gateway = Arc::new(TestApp::open(&test).await);
    gateway.submit(&[new_event(0), new_event(1)]).await;
    let other = Other::begin(&test, uri_of_event(0)).await;
    let waiting = Arc::clone(&gateway);
    let waiting = tokio::spawn(async move { waiting.submit(&[deactivated(1)]).await });
    somebody_waits(&test.db).await;
    assert!(!waiting.is_finished());
    other.end().await;
    assert_eq!(waiting.await.unwrap(), [Outcome::Applied { is_new: false }]);
    let hidden = event::Entity::find().all(test.db.read()).await.unwrap();
    assert_eq!(hidden.iter().filter(|event| event.is_hidden).count(), 1);
    drop(gateway);
    test.discard().await;
}
