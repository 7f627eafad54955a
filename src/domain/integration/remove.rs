//! Taking away what was brought: a tombstone in the ledger, through the pipeline like everything else.

use std::borrow::Cow;

use entities::sets::SourceType;

use super::{
    Kind, check_network,
    wire::{Address, identifier, shelf, source_type},
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
    infra::atproto::syntax::AtUri,
};

/// Takes away the one record that this names: an AT-URI for `bluesky`, the source's own identifier for the others. An
/// account's DID names no record: whoever sends it by mistake would lose everything of that account.
///
/// Errors: `NotFound` when there is none, `Forbidden` for a key that does not speak for the source, `SOURCE_ID_MALFORMED`
/// for what names no record.
pub async fn remove(app: &App, key: &ServiceKey, kind: Kind, source: &str, id: &str) -> Result<()> {
    let address = match source_type(key, source, || "sourceType".to_owned())? {
        SourceType::Bluesky => {
            check_network(app, key)?;
            let malformed = || Error::invalid("sourceId", "SOURCE_ID_MALFORMED", "expected the AT-URI of one record");
            let uri = AtUri::parse(id).map_err(|_| malformed())?;
            if uri.collection.as_str() != bluesky::collection(kind) {
                return Err(missing(id));
            }
            Address::of_network(kind, &uri)
        }
        source => {
            let shelf = shelf(key, source, kind);
            let id = identifier(id, || "sourceId".to_owned())?;
            // Whose answer it is, the ledger knows.
            let held = record::by_uris(app.db.read(), vec![shelf.uri(&id)]).await?.into_values().next();
            let held = held.ok_or_else(|| missing(&id))?;
            Address::on(shelf, &held.did, id)
        }
    };
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
        Some(ingest::Outcome::Parked(parked)) => Err(Error::invalid("sourceId", parked.code, parked.why)),
        Some(ingest::Outcome::Unchanged) | None => Err(missing(id)),
    }
}

fn missing(id: &str) -> Error {
    Error::NotFound { what: "record", key: id.chars().take(300).collect() }
}
