//! Dead letters: what consumers of a queue died of, and what they could not read. They are taken out of the queue into the
//! list, so that there is one place to look, with the same filters and the same history.

use metrics::counter;

use crate::{
    app::App,
    domain::ingest::parked::{Parked, Stage, park},
    error::Result,
    infra::{
        kv::{Fence, Topic},
        queue::Queue,
    },
};

/// Letters that are taken at once.
const LETTERS: usize = 50;

/// Parks dead letters of a queue; how many there were. Again, until it returns nought. Written in the name
/// of a lock: one collects for all.
pub async fn collect(app: &App, queue: &Queue, fence: &Fence) -> Result<usize> {
    let dead = queue.dead_letters(LETTERS).await?;
    let letters: Vec<(String, Parked)> = dead
        .letters
        .iter()
        .map(|letter| {
            let (code, why) = if letter.is_ours {
                ("MESSAGE_POISONOUS", "consumers died of it again and again")
            } else {
                ("MESSAGE_UNREADABLE", "it has not the form of a message of this queue")
            };
            (letter.body.clone(), Parked::at(Stage::Queue, code, why))
        })
        .collect();
    if letters.is_empty() {
        return Ok(0);
    }
    let refused: Vec<(&String, &Parked)> = letters.iter().map(|(body, parked)| (body, parked)).collect();
    let refused = &refused;
    app.db
        .transact(|tx| async move {
            fence.admit(&*tx).await?;
            park(&*tx, app.clock.now(), refused).await
        })
        .await?;
    app.kv.bell(Topic::Failures).ring();
    // Only now: a letter that is taken twice is parked once.
    dead.forget().await?;
    for (_, parked) in &letters {
        counter!("gateway_ingest_parked_total", "stage" => parked.stage.as_str(), "code" => parked.code).increment(1);
    }
    Ok(letters.len())
}
