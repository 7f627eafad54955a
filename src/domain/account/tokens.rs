//! Where the tokens of linked accounts are given back.

use crate::{app::App, error::Result, infra::atproto::syntax::Did};

/// Gives back and forgets the tokens with which the gateway may write for this DID. The link is cut already when this is
/// called, and so nothing is written, whatever comes of it; and it is called again when the link is cut again.
pub(super) async fn forget(app: &App, did: &str) -> Result<()> {
    let had_session = app.oauth.disconnect(&Did::parse(did)?).await?;
    tracing::debug!(did, had_session, "a link to the network was cut");
    Ok(())
}
