//! Taking away what was brought: a tombstone in the ledger, through the pipeline like everything else.

use std::borrow::Cow;

use entities::sets::SourceType;

use super::{
    Kind, check_network,
    origin::{Origin, account},
    refused,
    wire::Address,
};
use crate::{
    app::App,
    domain::{
        ingest::{
            self,
            line::{Claim, of_claim},
        },
        key::ServiceKey,
        record,
        source::bluesky,
    },
    error::{Error, Result},
    infra::atproto::syntax::{AtUri, Nsid, RecordKey},
};

/// Takes away the one record that this names: an AT-URI for `bluesky`, the source's own identifier for the others. An
/// account's DID names no record: whoever sends it by mistake would lose everything of that account.
///
/// Errors: `NotFound` when there is none, `Forbidden` for a key that does not speak for the source, `SOURCE_ID_MALFORMED`
/// for what names no record.
pub async fn remove(app: &App, key: &ServiceKey, kind: Kind, source: &str, id: &str) -> Result<()> {
    let origin = Origin::of(key, source, || "sourceType".to_owned())?;
    if origin.source == SourceType::Bluesky {
        let malformed = |_| Error::invalid("sourceId", "SOURCE_ID_MALFORMED", "expected the AT-URI of one record");
        return of_network(app, key, kind, &AtUri::parse(id).map_err(malformed)?).await;
    }
    let shelf = origin.shelf(key, kind);
    let name = origin.identifier(id, || "sourceId".to_owned())?;
    // Whose answer it is, the ledger knows.
    let author = record::author_of(app.db.read(), &shelf.uri(&name)).await?.ok_or_else(|| missing(id))?;
    take_away(app, &Address::on(shelf, &author, name), id).await
}

/// Takes away the event of this record of the network.
///
/// Errors: as [`remove`] has them, with the name of the part that is at fault.
pub async fn remove_record(app: &App, key: &ServiceKey, did: &str, collection: &str, rkey: &str) -> Result<()> {
    Origin::of(key, SourceType::Bluesky.as_str(), || "sourceType".to_owned())?;
    let did = account(did, || "did".to_owned())?;
    let malformed = |field: &'static str, expected: &'static str| Error::invalid(field, "FIELD_MALFORMED", expected);
    let collection =
        Nsid::parse(collection).map_err(|_| malformed("collection", "expected the name of a collection"))?;
    let rkey = RecordKey::parse(rkey).map_err(|_| malformed("rkey", "expected a record key"))?;
    of_network(app, key, Kind::Event, &AtUri { did, collection, rkey }).await
}

async fn of_network(app: &App, key: &ServiceKey, kind: Kind, uri: &AtUri) -> Result<()> {
    check_network(app, key)?;
    let name = uri.to_string();
    if uri.collection.as_str() != bluesky::collection(kind) {
        return Err(missing(&name));
    }
    take_away(app, &Address::of_network(kind, uri), &name).await
}

async fn take_away(app: &App, address: &Address, name: &str) -> Result<()> {
    let claim = Claim {
        operation: Cow::Borrowed("delete"),
        collection: Cow::Borrowed(&address.collection),
        rkey: Cow::Borrowed(&address.rkey),
        rev: None,
        record: None,
        cid: None,
    };
    match ingest::submit(app, &[of_claim(&address.author, None, &claim)]).await?.into_iter().next() {
        Some(ingest::Outcome::Applied { .. }) => Ok(()),
        Some(ingest::Outcome::Parked(parked)) => Err(refused(parked, "sourceId")),
        Some(ingest::Outcome::Unchanged) | None => Err(missing(name)),
    }
}

fn missing(name: &str) -> Error {
    Error::NotFound { what: "record", key: name.chars().take(300).collect() }
}
