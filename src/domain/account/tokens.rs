//! Where the tokens of linked accounts are given back.

use crate::{app::App, error::Result};

/// Gives back and forgets the tokens with which the gateway may write for this DID. The link is cut already when this is
/// called, and so nothing is written, whatever comes of it; and it is called again when the link is cut again.
#[expect(clippy::unused_async, reason = "whoever keeps tokens gives them back over the network")]
pub(super) async fn forget(_app: &App, did: &str) -> Result<()> {
    // No tokens are kept yet.
    tracing::debug!(did, "a link to the network was cut");
    Ok(())
}
