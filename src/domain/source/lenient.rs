//! Reading values that other people's programs wrote: every deviation is noted, nothing is refused for its form.

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Map, Value};

use crate::infra::atproto::syntax;

/// Bytes of a link.
const URL_LIMIT: usize = 2_048;

/// A record's fields with the deviations found so far.
pub struct Reader<'a> {
    fields: &'a Map<String, Value>,
    issues: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Starts to read.
    pub fn new(fields: &'a Map<String, Value>) -> Self {
        Self { fields, issues: Vec::new() }
    }

    /// Notes a deviation.
    pub fn note(&mut self, issue: &'static str) {
        if !self.issues.contains(&issue) {
            self.issues.push(issue);
        }
    }

    /// Ends the reading.
    pub fn into_issues(self) -> Vec<&'static str> {
        self.issues
    }

    /// A field that is there and not `null`.
    pub fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Text, cleaned and cut to `limit` characters; `issue` is noted for other types and for a cut.
    pub fn text(&mut self, name: &str, limit: usize, issue: &'static str) -> Option<String> {
        let value = self.field(name)?;
        let Some(raw) = value.as_str() else {
            self.note(issue);
            return None;
        };
        let cleaned = clean(raw);
        if cleaned.chars().nth(limit).is_some() {
            self.note(issue);
            return Some(cleaned.chars().take(limit).collect::<String>().trim_end().to_owned());
        }
        (!cleaned.is_empty()).then_some(cleaned)
    }

    /// An instant: RFC 3339 with or without zone and seconds, a date, or Unix seconds or milliseconds as a number.
    pub fn instant(&mut self, name: &str, issue: &'static str) -> Option<DateTime<Utc>> {
        let found = match self.field(name)? {
            Value::String(text) => syntax::parse_datetime(text.trim()),
            Value::Number(number) => number.as_i64().and_then(from_epoch).map(|instant| (instant, false)),
            _ => None,
        };
        if !matches!(found, Some((_, true))) {
            self.note(issue);
        }
        found.map(|(instant, _)| instant)
    }

    /// A member of an open set of tokens, by its part after `#`; `None` when absent or unknown.
    pub fn token<T: Copy>(&mut self, name: &str, known: &[(&str, T)], issue: &'static str) -> Option<T> {
        let value = self.field(name)?;
        let text = value.as_str().unwrap_or_default();
        let token = text.rsplit('#').next().unwrap_or(text);
        let folded: String =
            token.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        let found = known.iter().find(|(name, _)| *name == folded).map(|(_, member)| *member);
        // Only the full token is what the lexicon asks for.
        if found.is_none() || !text.contains('#') || token != folded {
            self.note(issue);
        }
        found
    }
}

/// Text without the control characters that no database and no screen wants; line breaks and tabs stay.
pub fn clean(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    kept.collect::<String>().trim().to_owned()
}

/// A coordinate as number or as text.
pub fn degrees(value: Option<&Value>, bound: f64) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number.abs() <= bound).then_some(number)
}

/// Only http and https are kept: a link is shown to people, and other schemes run things.
pub fn web_address(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > URL_LIMIT {
        return None;
    }
    let url = url::Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= URL_LIMIT)
        .then(|| url.to_string())
}

/// Seconds, or milliseconds where seconds would lie beyond the year 5138.
fn from_epoch(number: i64) -> Option<DateTime<Utc>> {
    let instant = if number.unsigned_abs() < 100_000_000_000 {
        DateTime::from_timestamp(number, 0)
    } else {
        DateTime::from_timestamp_millis(number)
    };
    instant.filter(|instant| (1..=9999).contains(&instant.year()))
}
