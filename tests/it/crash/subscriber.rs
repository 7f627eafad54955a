//! A subscriber over HTTP, with a server that is killed under it: it comes back with the cursor of its last delivery.

use fastrand::Rng;
use gateway::domain::change::Cursor;
use tokio::{sync::watch, task::JoinHandle};

use crate::support::{
    feed::{Feed, SeenChange},
    process::{Program, kill},
};

/// All that was delivered.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) changes: Vec<SeenChange>,
    pub(super) restarts: usize,
}

/// Follows the log from its beginning to the position that is told when nothing more is written.
pub(super) fn subscribe(program: Program, mut end: watch::Receiver<Option<Cursor>>) -> JoinHandle<Seen> {
    tokio::spawn(async move {
        let mut rng = Rng::with_seed(5);
        let mut seen = Seen::default();
        while end.borrow_and_update().is_none_or(|end| seen.changes.last().is_none_or(|last| last.cursor < end)) {
            let (child, address) = program.serve_api().await;
            let until = seen.changes.len() + rng.usize(200..3_500);
            let mut feed = Feed::open(&address, seen.changes.last().map(|last| last.cursor)).await.unwrap();
            while seen.changes.len() < until {
                let change = tokio::select! {
                    change = feed.next() => change,
                    Ok(()) = end.changed() => break,
                };
                let Some(change) = change.transpose().unwrap() else { break };
                assert!(seen.changes.last().is_none_or(|last| last.cursor < change.cursor), "{change:?}");
                let is_last = *end.borrow() == Some(change.cursor);
                seen.changes.push(change);
                if is_last {
                    break;
                }
            }
            assert!(kill(child).await);
            seen.restarts += 1;
        }
        seen
    })
}
