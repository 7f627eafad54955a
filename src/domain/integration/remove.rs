//! Taking away what was brought: a tombstone in the ledger, through the pipeline like everything else.

use entities::sets::SourceType;

use super::{Kind, check_tenant, wire::source_type};
use crate::{
    app::App,
    domain::{
        ingest::{
            self,
            line::{CommitLine, of_record},
        },
        key::ServiceKey,
        record,
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, tid_of},
};

/// Takes away the one record with this AT-URI. An account's DID names no record: whoever sends it by mistake would lose
/// everything of that account.
///
/// Errors: `NotFound` when there is none, `Forbidden` for a key that does not speak for the source, `SOURCE_ID_MALFORMED`
/// for what is no AT-URI, and `REVISION_AHEAD` for a record that claims to be written later than now.
pub async fn remove(app: &App, key: &ServiceKey, kind: Kind, source: &str, id: &str) -> Result<()> {
    check_tenant(app, key)?;
    if source_type(key, source, || "sourceType".to_owned())? != SourceType::Bluesky {
        // Nothing of another origin was ever accepted.
        return Err(missing(id));
    }
    let malformed = || Error::invalid("sourceId", "SOURCE_ID_MALFORMED", "expected the AT-URI of one record");
    let uri = AtUri::parse(id).map_err(|_| malformed())?;
    if uri.collection.as_str() != kind.collection() {
        return Err(missing(id));
    }
    let held = record::by_uris(app.db.read(), vec![uri.to_string()]).await?.into_values().next();
    let held = held.ok_or_else(|| missing(id))?;
    let now = app.clock.now();
    let rev = tid_of(now);
    if held.rev >= rev {
        let why = "the record claims to be written later than now";
        return Err(Error::invalid("sourceId", "REVISION_AHEAD", why));
    }
    let (collection, rkey) = (kind.collection(), uri.rkey.as_str());
    let deletion = CommitLine { rev: &rev, operation: "delete", collection, rkey, record: None, cid: None };
    ingest::submit(app, &[of_record(uri.did.as_str(), now, deletion)]).await?;
    Ok(())
}

fn missing(id: &str) -> Error {
    Error::NotFound { what: "record", key: id.chars().take(300).collect() }
}
