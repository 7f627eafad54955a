//! Reading a repository again, after a stream has shown a gap: what could not be told record by record is fetched from
//! the account's host and enters the pipeline like everything else.
//!
//! A listing only ever deletes what it would have had to show: it must be complete, and its revision newer than the
//! ledger's.

use std::collections::HashSet;

use entities::{identity, source_record as ledger};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use url::Url;

use super::line::{CommitLine, Line, of_record};
use crate::{
    app::App,
    domain::source::COLLECTIONS,
    error::{Error, Result},
    infra::atproto::{
        pds::{Record, Repo},
        syntax::{Did, Nsid, RecordKey},
    },
};

/// Whether a message asks for a repository to be read again.
pub fn is_request(body: &str) -> bool {
    // The streams write it with the kind spelt exactly so; the look spares a second parse of every message.
    body.contains(r#""kind":"resync""#) && parse(body).is_some()
}

/// Fetches what the message asks for, as lines for [`super::submit`]. Nothing is written.
///
/// Errors are those of the network: the message is to be tried again.
pub async fn fetch(app: &App, body: &str) -> Result<Vec<String>> {
    let Some(request) = parse(body) else { return Ok(Vec::new()) };
    let Some(pds) = host_of(app, &request.did).await? else { return Ok(Vec::new()) };
    let repo = Repo::new(&app.outbound, pds);
    let outcome = match (&request.collection, &request.rkey) {
        (Some(collection), Some(rkey)) => one(app, &repo, &request, collection, rkey).await,
        (Some(collection), None) => all(app, &repo, &request, collection).await,
        _ => {
            let mut lines = Vec::new();
            for collection in COLLECTIONS {
                lines.extend(all(app, &repo, &request, &Nsid::parse(collection)?).await?);
            }
            Ok(lines)
        }
    };
    match outcome {
        // The host does not serve it: an account event says why, and what is known stays until then.
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        outcome => outcome,
    }
}

struct Request {
    did: Did,
    rev: Option<String>,
    collection: Option<Nsid>,
    rkey: Option<RecordKey>,
}

fn parse(body: &str) -> Option<Request> {
    let line: Line<'_> = serde_json::from_str(body).ok()?;
    let resync = line.resync.filter(|_| line.kind == "resync")?;
    Some(Request {
        did: Did::parse(&line.did).ok()?,
        rev: resync.rev.map(std::borrow::Cow::into_owned),
        collection: resync.collection.and_then(|collection| Nsid::parse(&collection).ok()),
        rkey: resync.rkey.and_then(|rkey| RecordKey::parse(&rkey).ok()),
    })
}

async fn host_of(app: &App, did: &Did) -> Result<Option<Url>> {
    let known = identity::Entity::find_by_id(did.as_str()).one(app.db.read()).await?.and_then(|held| held.pds);
    if let Some(pds) = known.and_then(|pds| pds.parse().ok()) {
        return Ok(Some(pds));
    }
    Ok(app.directory.resolve(did).await?.and_then(|resolved| resolved.pds))
}

async fn one(app: &App, repo: &Repo, request: &Request, collection: &Nsid, rkey: &RecordKey) -> Result<Vec<String>> {
    // The record is at least as new as the commit that told of it; should it be newer, the commit that made it so tells
    // of the same content again.
    let rev = match request.rev.clone() {
        Some(rev) => rev,
        None => repo.status(&request.did).await?.and_then(|status| status.rev).ok_or_else(no_revision)?,
    };
    let record = repo.get_record(&request.did, collection, rkey).await?;
    Ok(vec![record.map_or_else(
        || deletion(app, &request.did, &rev, collection.as_str(), rkey.as_str()),
        |record| version(app, &request.did, &rev, collection, &record),
    )])
}

async fn all(app: &App, repo: &Repo, request: &Request, collection: &Nsid) -> Result<Vec<String>> {
    let listing = repo.list_records(&request.did, collection).await?;
    let rev = listing.rev.clone().or_else(|| request.rev.clone()).ok_or_else(no_revision)?;
    let mut lines: Vec<String> =
        listing.records.iter().map(|record| version(app, &request.did, &rev, collection, record)).collect();
    if listing.complete {
        let listed: HashSet<&str> = listing.records.iter().map(|record| record.rkey.as_str()).collect();
        let held: Vec<String> = ledger::Entity::find()
            .select_only()
            .column(ledger::Column::Rkey)
            .filter(ledger::Column::Did.eq(request.did.as_str()))
            .filter(ledger::Column::Collection.eq(collection.as_str()))
            .filter(ledger::Column::DeletedAt.is_null())
            .into_tuple()
            .all(app.db.read())
            .await?;
        let gone = held.iter().filter(|rkey| !listed.contains(rkey.as_str()));
        lines.extend(gone.map(|rkey| deletion(app, &request.did, &rev, collection.as_str(), rkey)));
    }
    Ok(lines)
}

/// Without a revision nothing that was read can be placed before or after what is known.
fn no_revision() -> Error {
    Error::upstream("pds", anyhow::anyhow!("the host told no revision"))
}

fn version(app: &App, did: &Did, rev: &str, collection: &Nsid, record: &Record) -> String {
    let commit = CommitLine {
        rev,
        operation: "update",
        collection: collection.as_str(),
        rkey: record.rkey.as_str(),
        record: Some(&record.json),
        cid: Some(&record.cid),
    };
    of_record(did.as_str(), app.clock.now(), commit)
}

fn deletion(app: &App, did: &Did, rev: &str, collection: &str, rkey: &str) -> String {
    let commit = CommitLine { rev, operation: "delete", collection, rkey, record: None, cid: None };
    of_record(did.as_str(), app.clock.now(), commit)
}
