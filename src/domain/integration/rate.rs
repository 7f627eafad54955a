//! How much one key may bring, whatever door it comes through.

use std::time::Duration;

use tracing::debug;

use crate::{
    app::App,
    domain::key::ServiceKey,
    error::{Error, Result},
    infra::kv::Limit,
};

/// Counts items that a key is about to bring or to take away.
///
/// Errors: `RateLimited` when they are too many; then none of them is counted.
pub async fn count(app: &App, key: &ServiceKey, items: usize) -> Result<()> {
    let items = u32::try_from(items).unwrap_or(u32::MAX);
    let limit = Limit { count: app.config.ingest.items_per_minute, per: Duration::from_mins(1) };
    match app.kv.rate(&format!("integration:{}", key.prefix), limit, items).await {
        Ok(rate) if rate.is_allowed => Ok(()),
        Ok(rate) => Err(Error::RateLimited { retry_after: rate.retry_after }),
        // An outage of the counting must not become one of the door.
        Err(error) => {
            debug!(error = error.chain(), "items are not counted");
            Ok(())
        }
    }
}
