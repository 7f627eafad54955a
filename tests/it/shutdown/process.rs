//! The role `process`.

use gateway::infra::queue::Message;
use serde_json::Value;

use super::stand::{Stand, end, figure, until};
use crate::support::records::network;

/// Records that were there already when they came.
const AGAIN: &str = "gateway_ingest_records_total{novelty=\"same\"}";
/// Whatever was processed.
const PROCESSED: &str = "gateway_ingest_messages_total{";

#[expect(clippy::cast_precision_loss, reason = "figures of metrics are floats")]
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_finishes_what_it_has_begun_and_nobody_does_it_again() {
    let Some(stand) = Stand::new().await else { return };
    let lines = network(61, 3_000, 2_000).lines;
    let all = lines.len() as u64;
    // What was published together is acknowledged together: a batch has room for it.
    let program = stand.program().with("GATEWAY_INGEST__BATCH_SIZE", "64");
    let (first, _) = program.serve("process").await;
    let (second, address) = program.serve("process").await;
    let queue = stand.queue().await;
    for some in lines.into_iter().map(message).collect::<Vec<_>>().chunks(100) {
        queue.publish(some).await.unwrap();
    }

    until("something is processed", async || stand.records().await > 0).await;
    end(first, "TERM").await;
    let done = stand.records().await;
    assert!(done < all, "it had nothing more to do");
    // It may have given everything over by then: its partitions go to the other one without a pause.
    until("the other one goes on", async || stand.records().await > done).await;
    assert!(figure(&address, AGAIN).await < 1.0, "what was acknowledged came again");
    end(second, "INT").await;

    let left = all - stand.records().await;
    assert!(left > 0, "it had nothing more to do");
    // What was done is not in the queue any more, and all the rest is.
    until("what was not begun is in the queue again", async || stand.waiting().await == left).await;

    let (third, address) = program.serve("process").await;
    until("all is processed", async || stand.records().await == all).await;
    until("all is acknowledged", async || figure(&address, PROCESSED).await >= left as f64).await;
    assert!(figure(&address, AGAIN).await < 1.0, "what was acknowledged came again");
    end(third, "TERM").await;
    assert_eq!(queue.depth().await.map(|depth| (depth.messages, depth.dead)).unwrap(), (0, 0));
    drop(queue);
    stand.discard().await;
}

fn message(line: String) -> Message {
    let did = serde_json::from_str::<Value>(&line).unwrap()["did"].as_str().unwrap().to_owned();
    Message { key: did, body: line }
}
