//! The text of a position in a log, as clients keep it: opaque, URL-safe, one for each position.

use data_encoding::BASE64URL_NOPAD;

/// Longest text that can be a cursor; anything longer is not even decoded.
pub(super) const LONGEST: usize = 30;

/// The text of a position; `log` says which log, and in which version of the format.
pub(super) fn write(log: &str, id: i64) -> String {
    BASE64URL_NOPAD.encode(format!("{log}:{id}").as_bytes())
}

/// The position, if the text is one of this log.
pub(super) fn read(log: &str, text: &str) -> Option<i64> {
    if text.len() > LONGEST {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let number = std::str::from_utf8(&bytes).ok()?.strip_prefix(log)?.strip_prefix(':')?;
    let id: i64 = number.parse().ok()?;
    // `parse` also takes `+7` and `007`: one position, one text.
    (id >= 0 && number == id.to_string()).then_some(id)
}
