//! Bodies: read with a bound in bytes and in time, and cut into items.

use axum::{body::Body, http::HeaderMap};
use serde_json::value::RawValue;

use crate::{
    api::{
        body::{self, PATIENCE},
        http::problem::Problem,
    },
    error::Error,
};

/// Largest batch.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// Most items of a batch.
const ITEMS: usize = 1_000;

pub(super) async fn read(body: Body, most: usize) -> Result<String, Problem> {
    let bytes = body::read(body, most, PATIENCE).await.map_err(|refused| Problem::of_body(refused, most))?;
    String::from_utf8(bytes.into())
        .map_err(|_| Error::invalid("body", "BODY_NOT_UTF8", "expected JSON in UTF-8").into())
}

/// The items of a batch: a JSON list, or JSON by lines with `application/x-ndjson`. What is no JSON within a line is left
/// to the item.
pub(super) fn items<'a>(headers: &HeaderMap, text: &'a str) -> Result<Vec<&'a str>, Error> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let items: Vec<&str> =
        if matches!(kind.as_str(), "application/x-ndjson" | "application/ndjson" | "application/jsonl") {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).take(ITEMS + 1).collect()
        } else {
            let items: Vec<&'a RawValue> = serde_json::from_str(text)
                .map_err(|error| Error::invalid("body", "BODY_NOT_A_LIST", error.to_string()))?;
            items.into_iter().map(RawValue::get).collect()
        };
    if items.is_empty() || items.len() > ITEMS {
        return Err(Error::invalid("body", "BATCH_SIZE_OUT_OF_RANGE", format!("a batch has 1 to {ITEMS} items")));
    }
    Ok(items)
}
