//! Taking away what was brought: a tombstone in the ledger, through the pipeline like everything else.

use entities::{sets::SourceType, source_record as ledger};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{Kind, check_tenant, wire::source_type};
use crate::{
    app::App,
    domain::{
        ingest::{
            self,
            line::{CommitLine, of_record},
        },
        key::ServiceKey,
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, Did, tid_of},
};

/// Takes away a record, by its AT-URI, or all records of this kind of an account, by its DID. Returns how many there were.
///
/// Errors: `NotFound` when there is none, `Forbidden` for a key that does not speak for the source, `Invalid` for an id
/// that names neither, and `REVISION_AHEAD` for a record that claims to be written later than now.
pub async fn remove(app: &App, key: &ServiceKey, kind: Kind, source: &str, id: &str) -> Result<usize> {
    check_tenant(app, key)?;
    if source_type(key, source, || "sourceType".to_owned())? != SourceType::Bluesky {
        // Nothing of another origin was ever accepted.
        return Err(missing(id));
    }
    let of_kind = ledger::Entity::find()
        .select_only()
        .columns([ledger::Column::Did, ledger::Column::Rkey, ledger::Column::Rev])
        .filter(ledger::Column::Collection.eq(kind.collection()))
        .filter(ledger::Column::DeletedAt.is_null());
    let named = match (AtUri::parse(id), Did::parse(id)) {
        (Ok(uri), _) => of_kind.filter(ledger::Column::Uri.eq(uri.to_string())),
        (_, Ok(did)) => of_kind.filter(ledger::Column::Did.eq(did.as_str())),
        _ => return Err(Error::invalid("sourceId", "SOURCE_ID_MALFORMED", "expected an AT-URI or a DID")),
    };
    let rows: Vec<(String, String, String)> = named.into_tuple().all(app.db.read()).await?;
    if rows.is_empty() {
        return Err(missing(id));
    }
    let now = app.clock.now();
    let rev = tid_of(now);
    if rows.iter().any(|(_, _, held)| *held >= rev) {
        let why = "the record claims to be written later than now";
        return Err(Error::invalid("sourceId", "REVISION_AHEAD", why));
    }
    let line = |(did, rkey, _): &(String, String, String)| {
        let (collection, rev) = (kind.collection(), rev.as_str());
        of_record(did, now, CommitLine { rev, operation: "delete", collection, rkey, record: None, cid: None })
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    for batch in lines.chunks(app.config.ingest.batch_size.max(1)) {
        ingest::submit(app, batch).await?;
    }
    Ok(rows.len())
}

fn missing(id: &str) -> Error {
    Error::NotFound { what: "record", key: id.chars().take(300).collect() }
}
