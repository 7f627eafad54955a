//! Asking a relay which repositories there are.

use serde::Deserialize;
use url::Url;

use super::syntax::{Did, Nsid};
use crate::{
    error::{Error, Result},
    infra::http::Outbound,
};

/// Repositories of one answer; what the protocol allows.
const PAGE: &str = "2000";

/// One page of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repos {
    /// Whose they are.
    pub dids: Vec<Did>,
    /// Where the next page begins; `None` after the last.
    pub cursor: Option<String>,
}

/// The repositories that hold records of a collection, as the relay knows them
/// (`com.atproto.sync.listReposByCollection`). Entries that are not DIDs are left out.
pub async fn repos_with(outbound: &Outbound, relay: &Url, collection: &Nsid, cursor: Option<&str>) -> Result<Repos> {
    #[derive(Deserialize)]
    struct Page {
        repos: Vec<Repo>,
        cursor: Option<String>,
    }
    #[derive(Deserialize)]
    struct Repo {
        did: String,
    }
    let mut url = relay.join("/xrpc/com.atproto.sync.listReposByCollection").map_err(Error::bug)?;
    url.query_pairs_mut().append_pair("collection", collection.as_str()).append_pair("limit", PAGE);
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", cursor);
    }
    let answer = outbound.get("relay", &url).await?;
    if !answer.is_success() {
        return Err(Error::upstream("relay", anyhow::anyhow!("the relay answered with status {}", answer.status)));
    }
    let page: Page = serde_json::from_slice(&answer.body).map_err(|error| Error::upstream("relay", error))?;
    let dids = page.repos.iter().filter_map(|repo| Did::parse(&repo.did).ok()).collect();
    Ok(Repos { dids, cursor: page.cursor })
}
