//! The role `firehose`.

use entities::stream_cursor;
use sea_orm::EntityTrait;
use serde_json::Value;

use super::stand::{Stand, end, until};
use crate::support::{
    jetstream,
    records::{BEGINNING, network},
};

/// Microseconds between two lines.
const PACE: i64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_firehose_notes_how_far_it_has_filled_the_queue() {
    let Some(stand) = Stand::new().await else { return };
    let lines: Vec<String> =
        (1..).zip(network(62, 12_000, 8_000).lines).map(|(number, line)| at(number, &line)).collect();
    let all = lines.len() as u64;
    let stream = jetstream::serve(lines).await;
    let program = stand
        .program()
        .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
        .with("GATEWAY_STREAMS__START", "oldest");
    let (child, _) = program.serve("firehose").await;
    let queue = stand.queue().await;
    until("something is published", async || queue.depth().await.unwrap().messages > 0).await;
    end(child, "TERM").await;

    let cursor = stream_cursor::Entity::find().one(stand.test.db.read()).await.unwrap().expect("it was noted");
    // Lines are as far apart as they are many: the position tells how many there were.
    let noted = u64::try_from((cursor.position - BEGINNING) / PACE).unwrap();
    assert!(noted < all, "it had nothing more to read");
    until("all is in the queue up to the cursor, and nothing more", async || stand.waiting().await == noted).await;

    let (child, _) = program.serve("firehose,process").await;
    until("all is processed", async || stand.records().await == all).await;
    end(child, "TERM").await;
    assert_eq!(queue.depth().await.unwrap().dead, 0);
    drop(queue);
    stand.discard().await;
}

/// The line as the n-th of the stream.
fn at(number: i64, line: &str) -> String {
    let mut json: Value = serde_json::from_str(line).unwrap();
    json["time_us"] = (BEGINNING + number * PACE).into();
    json.to_string()
}
