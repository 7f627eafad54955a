//! What fails is tried again later, and put aside after the last time; what our own system fails at is no attempt.

use axum::{Json, Router, extract::Query, http::Uri};
use entities::{event, identity, ingest_failure, queue_message};
use gateway::{
    domain::{
        account,
        ingest::{Outcome, Stage, attempt, failure::backlog, line},
    },
    error::Class,
    infra::{
        clock::Clock,
        db::Db,
        queue::{Message, Queue, Topic},
    },
    telemetry,
};
use sea_orm::{DbBackend, EntityTrait};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{
    app::TestApp,
    database::{execute, on_each_database, postgres, sqlite},
    devnet::HTTP,
    process::{Program, kill},
    records::{BEGINNING, EVENT, cid_of, commit, did, tid, uri},
    wait::until,
};

/// What the database says of what it refuses, which is for nobody outside.
const SECRET: &str = "the secret of the table";

/// An event of the n-th account.
fn named(number: usize, name: &str) -> String {
    let record = json!({ "$type": EVENT, "name": name, "createdAt": "2026-09-01T10:00:00Z" });
    let version = (&*cid_of(&record.to_string()), &record);
    commit(&did(4, number), BEGINNING, &tid(BEGINNING, 1), EVENT, &name.to_lowercase(), Some(version))
}

/// Has the database refuse every row of a table for which this holds, with this SQLSTATE where it knows them.
async fn refuse(db: &Db, table: &str, condition: &str, state: &str) {
    let sql = match db.backend() {
        DbBackend::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{state}'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
        ),
        _ => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{SECRET}'); END"
        ),
    };
    execute(db, &sql).await;
}

/// A mistake of ours, as far as anybody can tell.
async fn refuse_some(db: &Db) {
    refuse(db, "event", "NEW.name = 'Refused'", "P0001").await;
}

/// Has it refuse nothing any more.
async fn accept(db: &Db, table: &str) {
    let sql = match db.backend() {
        DbBackend::Postgres => format!("DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()"),
        _ => "DROP TRIGGER refuse".to_owned(),
    };
    execute(db, &sql).await;
}

async fn names(db: &Db) -> Vec<String> {
    let mut names: Vec<String> =
        event::Entity::find().all(db.read()).await.unwrap().into_iter().map(|event| event.name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_the_database_refuses_is_found_and_left_to_who_can_come_back_with_it() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        refuse_some(&test.db).await;
        let batch = [named(1, "One"), named(2, "Refused"), named(3, "Three")];
        let tried = attempt(&gateway.app, &batch).await.unwrap();
        let applied = Outcome::Applied { is_new: true };
        assert!(
            matches!(&tried[..], [Ok(one), Err(_), Ok(three)] if *one == applied && *three == applied),
            "{tried:?}"
        );
        assert_eq!(tried[1].as_ref().unwrap_err().class(), Class::Retryable);
        assert_eq!(
            (names(&test.db).await, backlog(&gateway.app).await.unwrap()),
            (vec!["One".into(), "Three".into()], 0)
        );
        accept(&test.db, "event").await;
        let tried = attempt(&gateway.app, &batch[1..2]).await.unwrap();
        assert!(matches!(&tried[..], [Ok(outcome)] if *outcome == applied), "{tried:?}");
    })
    .await;
}

#[tokio::test]
async fn whoever_cannot_come_back_has_it_put_aside_without_a_word_of_the_database() {
    let metrics = telemetry::metrics().unwrap();
    let test = sqlite().await;
    let gateway = TestApp::open(&test).await;
    refuse_some(&test.db).await;
    let outcomes = gateway.submit(&[named(1, "One"), named(2, "Refused")]).await;
    let [Outcome::Applied { is_new: true }, Outcome::Parked(parked)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((parked.stage, parked.code), (Stage::Persist, "INTERNAL"));
    assert!(!parked.why.contains(SECRET), "{parked:?}");
    let row = ingest_failure::Entity::find().one(test.db.read()).await.unwrap().unwrap();
    assert!(row.reason.contains(SECRET), "{row:?}");
    let told = metrics.render();
    for outcome in ["refused", "parked"] {
        let series = format!("gateway_ingest_messages_total{{operation=\"update\",outcome=\"{outcome}\"}} 1");
        assert!(told.contains(&series), "{series} in\n{told}");
    }
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_climbs_the_ladder_and_holds_up_nobody() {
    on_each_database(async |test| {
        let db = &test.db;
        refuse_some(db).await;
        let queue = Queue::embedded(test.connect_again().await, Clock::system(), Topic::Records);
        let publish = async |bodies: &[String]| {
            let message = |body: &String| Message { key: did(4, 1), body: body.clone() };
            queue.publish(&bodies.iter().map(message).collect::<Vec<_>>()).await.unwrap();
        };
        let program = Program::over(&test.url);
        let (child, _) = program.serve("process").await;
        publish(&[named(1, "Refused")]).await;
        until("it is tried", async || {
            let waiting = queue_message::Entity::find().one(db.read()).await.unwrap();
            waiting.is_some_and(|message| message.attempts > 0)
        })
        .await;
        publish(&[named(1, "Later")]).await;
        until("a later record of its author waits for it", async || names(db).await == ["Later"]).await;
        accept(db, "event").await;
        until("it comes back by itself", async || names(db).await == ["Later", "Refused"]).await;
        assert!(ingest_failure::Entity::find().one(db.read()).await.unwrap().is_none());
        assert!(kill(child).await);

        // And put aside after the last attempt.
        refuse(db, "event", "NEW.name = 'Never'", "P0001").await;
        let program = program.with("GATEWAY_INGEST__MAX_ATTEMPTS", "2");
        let (child, _) = program.serve("process").await;
        publish(&[named(1, "Never")]).await;
        until("it is put aside", async || ingest_failure::Entity::find().one(db.read()).await.unwrap().is_some()).await;
        until("it is done", async || queue.depth().await.unwrap().messages == 0).await;
        let parked = ingest_failure::Entity::find().one(db.read()).await.unwrap().unwrap();
        assert_eq!((&*parked.stage, &*parked.code, parked.attempts), ("persist", "INTERNAL", 1));
        assert!(kill(child).await);
    })
    .await;
}

/// A PDS whose repositories all hold one event.
async fn pds() -> String {
    let answer = async |uri: Uri, Query(query): Query<Vec<(String, String)>>| {
        let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let record = json!({ "$type": EVENT, "name": "Fetched", "createdAt": "2026-09-01T10:00:00Z" });
        let cid = cid_of(&record.to_string());
        Json(match (uri.path(), get("collection")) {
            ("/xrpc/com.atproto.sync.getLatestCommit", _) => json!({ "cid": cid, "rev": tid(BEGINNING, 1) }),
            (_, Some(EVENT)) => {
                let uri = self::uri(get("repo").unwrap(), EVENT, "fetched");
                json!({ "records": [{ "uri": uri, "cid": cid, "value": record }] })
            }
            _ => json!({ "records": [] }),
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    format!("http://{address}")
}

/// What a process tells of requests with this outcome.
async fn resyncs(http: &str, outcome: &str) -> u64 {
    let told = HTTP.get(format!("http://{http}/metrics")).send().await.unwrap().text().await.unwrap();
    let series = format!("gateway_resyncs_total{{outcome=\"{outcome}\"}} ");
    told.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_system_fails_at_is_no_attempt_to_read_a_repository() {
    let Some(test) = postgres().await else { return };
    let (db, author, pds) = (&test.db, did(4, 1), pds().await);
    let now = Clock::system().now();
    db.transact(|tx| {
        let (author, pds) = (&author, &pds);
        async move {
            account::identity::note(&*tx, std::slice::from_ref(author), now).await?;
            account::identity::save_pds(&*tx, author, pds, now).await
        }
    })
    .await
    .unwrap();
    assert!(identity::Entity::find_by_id(&author).one(db.read()).await.unwrap().is_some_and(|held| held.pds.is_some()));
    // It is short of something, which passes.
    refuse(db, "source_record", "true", "53200").await;
    let queue = Queue::embedded(test.connect_again().await, Clock::system(), Topic::Resyncs);
    queue.publish(&[Message { key: author.clone(), body: line::of_resync(&author, now) }]).await.unwrap();
    let program = Program::over(&test.url).with("GATEWAY_INGEST__MAX_ATTEMPTS", "3");
    let (child, http) = program.serve("process").await;
    // More often than a request may be tried.
    until("it is taken again and again", async || resyncs(&http, "released").await > 3).await;
    let waiting = queue_message::Entity::find().one(db.read()).await.unwrap().unwrap();
    assert_eq!((waiting.attempts, backlog_of(db).await), (0, 0));
    accept(db, "source_record").await;
    until("it goes on by itself", async || names(db).await == ["Fetched"]).await;
    until("it is done", async || resyncs(&http, "done").await == 1).await;
    assert_eq!(resyncs(&http, "retried").await + resyncs(&http, "parked").await, 0);

    // What is refused of a repository is tried again by itself.
    refuse(db, "event", "NEW.name = 'Fetched'", "P0001").await;
    execute(db, "DELETE FROM event_source; DELETE FROM event; DELETE FROM source_record").await;
    queue.publish(&[Message { key: author.clone(), body: line::of_resync(&author, now) }]).await.unwrap();
    until("the request is done", async || resyncs(&http, "done").await == 2).await;
    until("the record is tried", async || {
        let waiting = queue_message::Entity::find().one(db.read()).await.unwrap();
        waiting.is_some_and(|message| message.topic == Topic::Records.as_str() && message.attempts > 0)
    })
    .await;
    accept(db, "event").await;
    until("the record is applied", async || names(db).await == ["Fetched"]).await;
    assert!(kill(child).await);
    test.discard().await;
}

async fn backlog_of(db: &Db) -> usize {
    ingest_failure::Entity::find().all(db.read()).await.unwrap().len()
}
