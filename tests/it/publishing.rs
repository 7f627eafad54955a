//! From a stream into the queue: each message once as far as the gateway can know, and none that nobody could read.

use entities::{ingest_failure, queue_message, stream_cursor};
use gateway::infra::db::Db;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use serde_json::json;

use crate::support::{
    database::{execute, on_each_database, postgres},
    jetstream,
    process::{Program, kill},
    records::{BEGINNING, EVENT, cid_of, commit, did, tid},
    wait::until,
};

/// An event of the n-th account, with a description of so many bytes.
fn line(number: usize, bytes: usize) -> String {
    let record = json!({ "$type": EVENT, "name": "Event", "description": "x".repeat(bytes) });
    let at = BEGINNING + i64::try_from(number).unwrap();
    let version = (&*cid_of(&record.to_string()), &record);
    commit(&did(6, number), at, &tid(at, 1), EVENT, "one", Some(version))
}

/// The program that reads this stream from its beginning.
fn reading(database: &str, stream: &jetstream::Jetstream) -> Program {
    Program::over(database)
        .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
        .with("GATEWAY_STREAMS__START", "oldest")
}

/// Whether the stream is safe up to the n-th line.
async fn is_safe(db: &Db, number: usize) -> bool {
    let cursor = stream_cursor::Entity::find().one(db.read()).await.unwrap();
    cursor.is_some_and(|cursor| cursor.position == BEGINNING + i64::try_from(number).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_queue_is_not_published_again_while_the_cursor_cannot_move() {
    let Some(test) = postgres().await else { return };
    let db = &test.db;
    // A sequence counts also what is undone.
    execute(
        db,
        "CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON stream_cursor FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let lines: Vec<String> = (0..20).map(|number| line(number, 10)).collect();
    let stream = jetstream::serve(lines.clone()).await;
    let (child, _) = reading(&test.url, &stream).serve("firehose").await;
    until("the cursor is tried again and again", async || {
        let asked = Statement::from_string(DbBackend::Postgres, "SELECT last_value FROM tries");
        let row = db.read().query_one_raw(asked).await.unwrap().unwrap();
        row.try_get_by_index::<i64>(0).unwrap() > 4
    })
    .await;
    execute(db, "DROP TRIGGER refuse ON stream_cursor").await;
    until("the cursor moves", async || is_safe(db, 19).await).await;
    let queued = queue_message::Entity::find().all(db.read()).await.unwrap();
    let mut bodies: Vec<&String> = queued.iter().map(|message| &message.body).collect();
    bodies.sort();
    let mut expected: Vec<&String> = lines.iter().collect();
    expected.sort();
    assert!(bodies == expected, "{} messages were published of {}", bodies.len(), expected.len());
    assert!(kill(child).await);
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_to_be_read_takes_no_room_in_the_queue_and_is_not_lost() {
    on_each_database(async |test| {
        let (db, lines) = (&test.db, [line(0, 10), line(1, 40_000), line(2, 10)]);
        let stream = jetstream::serve(lines.to_vec()).await;
        let program = reading(&test.url, &stream).with("GATEWAY_INGEST__MAX_RECORD_BYTES", "10000");
        let (child, _) = program.serve("firehose").await;
        until("the cursor moves", async || is_safe(db, 2).await).await;
        let queued = queue_message::Entity::find().all(db.read()).await.unwrap();
        let mut bodies: Vec<&String> = queued.iter().map(|message| &message.body).collect();
        bodies.sort();
        let mut expected = [&lines[0], &lines[2]];
        expected.sort();
        assert!(bodies == expected, "{} messages are queued", bodies.len());
        let parked = ingest_failure::Entity::find().all(db.read()).await.unwrap();
        let [parked] = &parked[..] else { panic!("{} messages are parked", parked.len()) };
        assert_eq!((&*parked.stage, &*parked.code), ("receive", "MESSAGE_TOO_LARGE"));
        assert!(parked.payload == lines[1] && parked.did.as_ref() == Some(&did(6, 1)));
        assert!(kill(child).await);
    })
    .await;
}
