//! Links: entries of `uris`, wherever they come from, and locations of the network's `#uri` kind.

use entities::location::Link;
use serde_json::Value;

use crate::domain::source::lenient::{clean, web_address};

/// Characters of a label that are kept.
const NAME_LIMIT: usize = 300;

/// What an entry links to, as it says it.
pub fn address(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| entry.get("uri")?.as_str())
}

/// An entry of `uris`, or a location of the `#uri` kind; plain text instead of an object is taken for the address.
pub fn read(entry: &Value) -> Option<Link> {
    let address = address(entry)?;
    let name = entry.get("name").and_then(Value::as_str).map(clean).filter(|name| !name.is_empty());
    let name = name.map(|name| name.chars().take(NAME_LIMIT).collect());
    Some(Link { name, url: web_address(address)? })
}
