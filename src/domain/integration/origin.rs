//! Whose items they are: the sources that programs name, and accounts of the network.

use entities::sets::SourceType;
use sea_orm::ActiveEnum;

use super::Kind;
use crate::{
    domain::{
        ingest::accepts,
        key::ServiceKey,
        source::web::{self, Shelf},
    },
    error::{Error, Result},
    infra::atproto::syntax::Did,
};

/// A source that the key speaks for, as the program names it.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) source: SourceType,
    name: &'a str,
}

impl<'a> Origin<'a> {
    pub(super) fn of(key: &ServiceKey, name: &'a str, field: impl Fn() -> String) -> Result<Self> {
        let found = if web::SITES.contains(&name) {
            Some(SourceType::Other)
        } else {
            SourceType::try_from_value(&name.to_owned()).ok().filter(|source| *source != SourceType::Openmeet)
        };
        let unknown = || {
            let why = format!("expected bluesky, web, other, {}", web::SITES.join(", "));
            Error::invalid(field(), "SOURCE_TYPE_UNKNOWN", why)
        };
        let source = found.ok_or_else(unknown)?;
        if key.speaks_for(source) {
            return Ok(Self { source, name });
        }
        Err(Error::Forbidden { why: "this key does not speak for this source" })
    }

    pub(super) fn shelf(self, key: &ServiceKey, kind: Kind) -> Shelf {
        Shelf { source: self.source, tenant: key.tenant.id(), kind }
    }

    /// The name on its shelf of what the source calls so.
    pub(super) fn identifier(self, id: &str, field: impl Fn() -> String) -> Result<String> {
        let why = "expected at most 700 bytes without control characters";
        let name = Some(web::on_shelf(self.name, id)).filter(|name| web::is_id(id) && web::is_id(name));
        name.ok_or_else(|| Error::invalid(field(), "SOURCE_ID_MALFORMED", why))
    }
}

pub(super) fn account(did: &str, field: impl Fn() -> String) -> Result<Did> {
    let found = Did::parse(did).ok().filter(|did| accepts(did.as_str()));
    found.ok_or_else(|| Error::invalid(field(), "DID_MALFORMED", "expected a did:plc or did:web"))
}
