//! The role `api`.

use gateway::domain::change::Cursor;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use serde_json::{Value, json};

use super::stand::{Stand, end, ended, until};
use crate::support::{
    changes::{commit, rows},
    feed::{Feed, logged},
    graphql::{GraphQl, Subscription},
    process::signal,
};

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor) { eventIngested(after: $after) { cursor } }";
/// The position before everything.
const NOUGHT: &str = "YzE6MA";
const SOCKETS: usize = 20;
/// Close code of the WebSocket protocol: the server goes and comes back.
const RESTART: u16 = 1012;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_answers_what_it_was_asked_and_sends_its_subscribers_elsewhere() {
    let Some(stand) = Stand::new().await else { return };
    let program = stand.program();
    let (mut child, address) = program.serve("api").await;
    let (other, elsewhere) = program.serve("api").await;
    let (here, there) = (GraphQl::new(address.parse().unwrap()), GraphQl::new(elsewhere.parse().unwrap()));
    let (db, tenant) = (stand.test.connect_again().await, stand.test.tenant);
    let writing = tokio::spawn(async move {
        loop {
            commit(&db, rows(tenant, 3)).await.unwrap();
        }
    });
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let mut socket = here.subscribe(SUBSCRIPTION, &json!({ "after": NOUGHT })).await;
        let heard = vec![cursor_of(&socket.next().await)];
        sockets.push((socket, heard));
    }
    let mut feed = Feed::open(&address, None).await.unwrap();
    let mut streamed = vec![feed.next().await.unwrap().unwrap().cursor];

    // A query that runs for as long as the test wants.
    let lock = stand.test.db.pool().begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE event_attendee IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let asked = tokio::spawn(async move { here.query("{ rsvps { nodes { id } } }", &json!({})).await });
    until("the query waits for the table", async || waits_for_lock(stand.test.db.pool()).await).await;

    signal(&child, "TERM").await;
    for (socket, heard) in &mut sockets {
        hear_out(socket, heard).await;
        assert_eq!(socket.closed, Some(RESTART));
    }
    while let Some(change) = feed.next().await {
        streamed.push(change.unwrap().cursor);
    }
    assert!(!asked.is_finished() && child.try_wait().unwrap().is_none(), "it does not wait for its query");
    lock.rollback().await.unwrap();
    assert_eq!(asked.await.unwrap()["rsvps"]["nodes"], json!([]));
    ended(child).await;

    // Whoever was sent away goes on elsewhere, behind the last delivery.
    writing.abort();
    assert!(writing.await.is_err_and(|ended| ended.is_cancelled()), "writing failed");
    let all: Vec<Cursor> = logged(stand.test.db.read(), tenant).await.iter().map(|change| change.cursor).collect();
    for (_, mut heard) in sockets {
        let mut socket = there.subscribe(SUBSCRIPTION, &json!({ "after": last(&heard).to_string() })).await;
        while last(&heard) != last(&all) {
            heard.push(cursor_of(&socket.next().await));
        }
        assert!(heard == all, "{} of {} changes were heard", heard.len(), all.len());
    }
    let mut feed = Feed::open(&elsewhere, Some(last(&streamed))).await.unwrap();
    while last(&streamed) != last(&all) {
        streamed.push(feed.next().await.unwrap().unwrap().cursor);
    }
    assert!(streamed == all, "{} of {} changes were heard", streamed.len(), all.len());
    end(other, "TERM").await;
    stand.discard().await;
}

/// Hears what is said until the socket is closed.
async fn hear_out(socket: &mut Subscription, heard: &mut Vec<Cursor>) {
    while let Some(data) = socket.next_or_end().await {
        heard.push(cursor_of(&data));
    }
}

fn cursor_of(data: &Value) -> Cursor {
    data["eventIngested"]["cursor"].as_str().unwrap().parse().unwrap()
}

fn last(cursors: &[Cursor]) -> Cursor {
    *cursors.last().unwrap()
}

async fn waits_for_lock(db: &DatabaseConnection) -> bool {
    let sql = "SELECT 1 FROM pg_locks WHERE relation = 'event_attendee'::regclass AND NOT granted";
    db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().is_some()
}
