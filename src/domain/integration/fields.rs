//! Reading the fields of an item: what breaks a rule is refused with its name.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::{
    domain::source::{lenient, link},
    error::{Error, Result},
    infra::atproto::syntax::parse_datetime,
};

/// The fields of an object, with where it stands.
pub(super) struct Fields<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn missing(&self, name: &str) -> Error {
        Error::invalid(self.at(name), "FIELD_MISSING", "it must be given")
    }

    pub(super) fn malformed(&self, name: &str, expected: &str) -> Error {
        Error::invalid(self.at(name), "FIELD_MALFORMED", format!("expected {expected}"))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.malformed(name, "text"))).transpose()
    }

    /// Text with something in it.
    pub(super) fn required(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.filter(|text| !lenient::clean(text).is_empty()).ok_or_else(|| self.missing(name))
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        texts.map(Some).ok_or_else(|| self.malformed(name, "a list of texts"))
    }

    /// Links as the lexicon has them; an address alone is taken for one.
    pub(super) fn links(&self, name: &str) -> Result<Option<Vec<Value>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // Nothing else of an entry: it may not pass for what we note in links ourselves.
        let link = |entry: &Value| {
            let address = link::address(entry)?;
            match entry.get("name").filter(|name| !name.is_null()) {
                Some(name) => name.is_string().then(|| json!({ "uri": address, "name": name })),
                None => Some(json!({ "uri": address })),
            }
        };
        let links = value.as_array().and_then(|list| list.iter().map(link).collect::<Option<Vec<_>>>());
        links.map(Some).ok_or_else(|| self.malformed(name, "a list of links"))
    }

    pub(super) fn instant(&self, name: &str) -> Result<Option<&'a str>> {
        let text = self.text(name)?;
        if text.is_some_and(|text| parse_datetime(text.trim()).is_none()) {
            return Err(self.malformed(name, "an instant such as 2026-09-01T18:00:00Z"));
        }
        Ok(text)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.malformed(name, "an object"))?;
        Ok(Some(Fields { fields, path: self.at(name) }))
    }

    /// In place of an object that is absent.
    pub(super) fn nothing(&self, name: &str) -> Fields<'static> {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Fields { fields: &NOTHING, path: self.at(name) }
    }

    pub(super) fn one_of<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = known.iter().find(|(known, _)| *known == text).map(|(_, member)| *member);
        let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.malformed(name, &format!("one of {}", names())))
    }
}
