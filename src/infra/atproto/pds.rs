//! Reading a repo at its PDS, without login.
//!
//! Invariant: a record comes through as the JSON text that the PDS sent. That is why records are read with structs of our
//! own: atrium's `listRecords` and `getRecord` turn them into IPLD, which refuses what many live records contain (floats)
//! and forgets the order of fields, and one bad entry fails the page. The questions about a repo go through atrium.

#[cfg(test)]
mod tests;
mod wire;

use anyhow::anyhow;
use atrium_api::com::atproto::sync::{get_latest_commit, get_repo_status};
use serde_json::value::RawValue;
use url::Url;

use self::wire::{Failure, ListedPage, ListedRecord, Xrpc};
use super::syntax::{AtUri, Did, Nsid, RecordKey, is_tid};
use crate::{
    error::{Error, Result},
    infra::http::{Answer, Outbound, is_too_large},
};

const SERVICE: &str = "pds";
const PAGE: u32 = 100;
/// Bounds of one listing: records, requests (short pages need more of them), bytes of JSON in memory.
const MAX_RECORDS: usize = 10_000;
const MAX_REQUESTS: usize = 400;
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// One PDS, seen as the keeper of repos. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Repo {
    outbound: Outbound,
    pds: Url,
}

/// A record as its PDS gave it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its key in the collection.
    pub rkey: RecordKey,
    /// The hash that the PDS states; not checked against the text.
    pub cid: String,
    /// The record, verbatim.
    pub json: Box<RawValue>,
}

/// The records of one collection.
#[derive(Clone, Debug)]
pub struct Listing {
    /// A revision of the repo that the listing is at least as new as; `None` when the PDS told none.
    pub rev: Option<String>,
    /// The records, in the order of the PDS.
    pub records: Vec<Record>,
    /// Whether nothing is missing. Only then does the absence of a record mean that it was deleted.
    pub complete: bool,
}

/// What a PDS says of a repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoStatus {
    /// Whether its content may be shown.
    pub active: bool,
    /// Why not: `deactivated`, `takendown`, `suspended`, `deleted`, `desynchronized`, `throttled`, or something new.
    pub status: Option<String>,
    /// Its revision, when it is active.
    pub rev: Option<String>,
}

impl Repo {
    /// The PDS at an origin, as [`Resolved::pds`](super::identity::Resolved::pds) gives it.
    pub fn new(outbound: &Outbound, pds: Url) -> Self {
        Self { outbound: outbound.clone(), pds }
    }

    /// All records of a collection, at most 10,000 of them or 32 MiB.
    ///
    /// `NotFound` when the PDS does not serve the repo (any more); `RateLimited`; `Upstream` for other failures.
    pub async fn list_records(&self, did: &Did, collection: &Nsid) -> Result<Listing> {
        // Asked before the listing: whatever is listed afterwards is at least as new.
        let mut rev = self.latest_rev(did).await?;
        let (mut records, mut complete) = (Vec::new(), true);
        let (mut limit, mut bytes, mut cursor) = (PAGE, 0, None::<String>);
        for request in 0..MAX_REQUESTS {
            let answer = match self.page(did, collection, limit, cursor.as_deref()).await {
                // A few long records make a page longer than any answer may be.
                Err(error) if is_too_large(&error) && limit > 1 => {
                    limit = (limit / 5).max(1);
                    continue;
                }
                answer => answer?,
            };
            if request == 0 && rev.is_none() {
                rev = answer.header("atproto-repo-rev").filter(|rev| is_tid(rev)).map(str::to_owned);
            }
            let page = ListedPage::parse(&answer.body).map_err(|error| Error::upstream(SERVICE, error))?;
            // An empty page that goes on promises more than it holds.
            complete &= !page.records.is_empty() || page.cursor.is_none();
            let is_last = page.records.is_empty() || page.cursor.is_none();
            for entry in page.records {
                match record(entry, did, collection) {
                    Some(record) => {
                        bytes += record.json.get().len();
                        records.push(record);
                    }
                    None => complete = false,
                }
            }
            if is_last {
                return Ok(Listing { rev, records, complete });
            }
            if page.cursor == cursor || records.len() >= MAX_RECORDS || bytes >= MAX_BYTES {
                break;
            }
            cursor = page.cursor;
        }
        tracing::warn!(%did, %collection, records = records.len(), "a collection is too long to be listed");
        Ok(Listing { rev, records, complete: false })
    }

    /// One record; `None` when the repo does not hold it. Errors as for [`Repo::list_records`].
    pub async fn get_record(&self, did: &Did, collection: &Nsid, rkey: &RecordKey) -> Result<Option<Record>> {
        let query = [("repo", did.as_str()), ("collection", collection.as_str()), ("rkey", rkey.as_str())];
        let answer = self.outbound.get(SERVICE, &self.method("com.atproto.repo.getRecord", &query)?).await?;
        if answer.is_success() {
            let entry = serde_json::from_slice(&answer.body).map_err(|error| Error::upstream(SERVICE, error))?;
            let record = record(entry, did, collection).filter(|record| record.rkey == *rkey);
            return match record {
                Some(record) => Ok(Some(record)),
                None => Err(Error::upstream(SERVICE, anyhow!("getRecord gave another record than asked for"))),
            };
        }
        let failure = Failure::parse(&answer);
        if failure.is_record_gone() {
            return Ok(None);
        }
        // PDSes pass this call on for repos that they do not serve, so the failure may be any other host's.
        match self.status(did).await {
            Ok(Some(repo)) if repo.active => Err(failure.into_error(did)),
            Ok(_) => Err(Error::NotFound { what: "repo", key: did.to_string() }),
            Err(_) => Err(failure.into_error(did)),
        }
    }

    /// Whether the PDS serves a repo; `None` when it knows none of that DID (it may have moved).
    pub async fn status(&self, did: &Did) -> Result<Option<RepoStatus>> {
        use get_repo_status::{Error as Answered, NSID, OutputData, ParametersData};
        let parameters = ParametersData { did: wire::did(did)? };
        match self.xrpc().query::<_, OutputData, Answered>(NSID, parameters, did).await {
            Ok(repo) if repo.did.as_str() == did.as_str() => {
                let rev = repo.rev.map(String::from);
                Ok(Some(RepoStatus { active: repo.active, status: repo.status, rev }))
            }
            Ok(_) => Err(Error::upstream(SERVICE, anyhow!("getRepoStatus told of another repo than asked for"))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The revision of a repo; `None` when the PDS cannot tell, `NotFound` when it does not serve the repo.
    async fn latest_rev(&self, did: &Did) -> Result<Option<String>> {
        use get_latest_commit::{Error as Answered, NSID, OutputData, ParametersData};
        let parameters = ParametersData { did: wire::did(did)? };
        match self.xrpc().query::<_, OutputData, Answered>(NSID, parameters, did).await {
            Ok(commit) => Ok(Some(commit.rev.into())),
            Err(Error::Upstream { .. }) => Ok(None), // the listing itself will show whether the host is away
            Err(error) => Err(error),
        }
    }

    async fn page(&self, did: &Did, collection: &Nsid, limit: u32, cursor: Option<&str>) -> Result<Answer> {
        let limit = limit.to_string();
        let mut query = vec![("repo", did.as_str()), ("collection", collection.as_str()), ("limit", &limit)];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let answer = self.outbound.get(SERVICE, &self.method("com.atproto.repo.listRecords", &query)?).await?;
        if answer.is_success() { Ok(answer) } else { Err(Failure::parse(&answer).into_error(did)) }
    }

    fn method(&self, nsid: &str, query: &[(&str, &str)]) -> Result<Url> {
        let mut url = self.pds.join(&format!("/xrpc/{nsid}")).map_err(Error::bug)?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(url)
    }

    fn xrpc(&self) -> Xrpc<'_> {
        Xrpc { outbound: &self.outbound, base: self.pds.as_str().trim_end_matches('/') }
    }
}

/// A record of an entry, if it is one of this collection of this repo: a PDS speaks for nobody else.
fn record(entry: ListedRecord<'_>, did: &Did, collection: &Nsid) -> Option<Record> {
    let uri = AtUri::parse(&entry.uri?).ok()?;
    let is_ours = uri.did == *did && uri.collection == *collection;
    let (cid, json) = (entry.cid?.into_owned(), entry.value?.to_owned());
    is_ours.then_some(Record { rkey: uri.rkey, cid, json })
}
