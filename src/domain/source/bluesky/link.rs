//! Links: entries of `uris`, and locations of the `#uri` kind.

use entities::location::Link;
use serde_json::Value;

use crate::domain::source::lenient::{clean, web_address};

/// Characters of a label that are kept.
const NAME_LIMIT: usize = 300;

/// An entry of `uris`, or a location of the `#uri` kind; plain text instead of an object is taken for the address.
pub(super) fn read(entry: &Value) -> Option<Link> {
    let address = entry.as_str().or_else(|| entry.get("uri").and_then(Value::as_str))?;
    let name = entry.get("name").and_then(Value::as_str).map(clean).filter(|name| !name.is_empty());
    let name = name.map(|name| name.chars().take(NAME_LIMIT).collect());
    Some(Link { name, url: web_address(address)? })
}
