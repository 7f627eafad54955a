//! Waiting for a condition, and for nothing else.

use std::time::{Duration, Instant};

/// Far more than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
