//! Links: entries of `uris`, and locations of the `#uri` kind.

use entities::location::Link;
use serde_json::Value;

use crate::domain::source::lenient::clean;

/// Characters of a label that are kept.
const NAME_LIMIT: usize = 300;
/// Bytes of a link.
const URL_LIMIT: usize = 2_048;

/// An entry of `uris`, or a location of the `#uri` kind; plain text instead of an object is taken for the address.
pub(super) fn read(entry: &Value) -> Option<Link> {
    let address = entry.as_str().or_else(|| entry.get("uri").and_then(Value::as_str))?;
    let name = entry.get("name").and_then(Value::as_str).map(clean).filter(|name| !name.is_empty());
    let name = name.map(|name| name.chars().take(NAME_LIMIT).collect());
    Some(Link { name, url: web_address(address)? })
}

/// Only http and https are kept: a link is shown to people, and other schemes run things.
fn web_address(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > URL_LIMIT {
        return None;
    }
    let url = url::Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= URL_LIMIT)
        .then(|| url.to_string())
}
