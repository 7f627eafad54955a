//! Laying one source of settings over another.
//!
//! Every setting is applied on its own and the whole is checked after each, so that an error can always name the place
//! of the setting that caused it: `environment variable GATEWAY_HTTP__LISTEN: …`.

use toml::{Table, Value};

use super::{Config, DEFAULT, File};
use crate::error::{Error, Result};

const PREFIX: &str = "GATEWAY_";
/// Variables by the names that platforms give them, with section and key.
const KNOWN_ELSEWHERE: [(&str, &str, &str); 3] =
    [("AMQP_URL", "queue", "url"), ("DATABASE_URL", "database", "url"), ("REDIS_URL", "kv", "url")];

/// Variables with our prefix that are no keys: the file's name, and what Kubernetes and Docker set in every container
/// beside a service that is called "gateway" (GATEWAY_PORT_8080_TCP_ADDR and the like).
fn is_no_key(name: &str) -> bool {
    !name.contains("__")
        && (name == super::FILE_VARIABLE
            || name == "GATEWAY_PORT"
            || ["GATEWAY_SERVICE_HOST", "GATEWAY_SERVICE_PORT", "GATEWAY_PORT_"].iter().any(|p| name.starts_with(p)))
}

/// Whether an environment variable is read at all.
pub(super) fn concerns_us(name: &str) -> bool {
    name.starts_with(PREFIX) || KNOWN_ELSEWHERE.iter().any(|(known, ..)| *known == name)
}

/// The settings so far: always complete and valid.
pub(super) struct Layers {
    table: Table,
    config: Config,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    section: String,
    name: String,
}

impl Key {
    /// As in errors and in a file: `http.listen`.
    pub(super) fn dotted(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// As in the environment: `GATEWAY_HTTP__LISTEN`.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}__{}", self.section.to_ascii_uppercase(), self.name.to_ascii_uppercase())
    }
}

impl Layers {
    /// The defaults.
    pub(super) fn new() -> Result<Self> {
        let table: Table = DEFAULT.parse().map_err(Error::bug)?;
        let config = read(&table).map_err(|why| Error::bug(anyhow::anyhow!("config.default.toml: {why}")))?;
        Ok(Self { table, config })
    }

    /// Lays a file over it.
    pub(super) fn file(&mut self, file: File<'_>) -> Result<()> {
        let place = file.path.display().to_string();
        let table: Table = file.text.parse().map_err(|error: toml::de::Error| {
            // its Display repeats the line at fault, which may hold a password
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + file.text.bytes().take(start).filter(|b| *b == b'\n').count();
            Error::invalid(place.clone(), "CONFIG_UNREADABLE", format!("line {line}: {}", error.message()))
        })?;
        self.sections(table, |key| format!("{key} in {place}"))
    }

    /// Lays flags over it.
    pub(super) fn flags(&mut self, flags: Table) -> Result<()> {
        self.sections(flags, |key| format!("{key} on the command line"))
    }

    /// Lays the environment over it. Variables are taken in the order of their names, so that of several errors always
    /// the same one is reported; the particular name of a key wins over DATABASE_URL.
    pub(super) fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| concerns_us(name)).collect();
        variables.sort();
        for (name, text) in variables {
            if is_no_key(&name) {
                continue;
            }
            let place = format!("environment variable {name}");
            let known = self.keys();
            let elsewhere = KNOWN_ELSEWHERE.iter().find(|(known, ..)| *known == name);
            let key = if let Some((_, section, key)) = elsewhere {
                Key { section: (*section).to_owned(), name: (*key).to_owned() }
            } else {
                let found = known.iter().find(|key| key.variable() == name);
                let names = known.iter().map(Key::variable).chain([super::FILE_VARIABLE.to_owned()]);
                found.cloned().ok_or_else(|| unknown(&place, &name, names))?
            };
            let value = self.parse(&key, &text).map_err(|why| Error::invalid(place.clone(), "CONFIG_INVALID", why))?;
            self.set(&key, value, &place)?;
        }
        Ok(())
    }

    /// The result.
    pub(super) fn finish(self) -> Config {
        self.config
    }

    /// Every key there is: those of the default file.
    pub(super) fn keys(&self) -> Vec<Key> {
        let sections = self.table.iter().filter_map(|(section, value)| Some((section, value.as_table()?)));
        sections
            .flat_map(|(section, keys)| keys.keys().map(|name| Key { section: section.clone(), name: name.clone() }))
            .collect()
    }

    fn sections(&mut self, table: Table, place: impl Fn(&str) -> String) -> Result<()> {
        for (section, value) in table {
            let Some(known) = self.table.get(&section).and_then(Value::as_table).cloned() else {
                let sections = self.table.keys().cloned();
                let nearest: Vec<_> = match value {
                    Value::Table(_) => sections.collect(),
                    _ => self.keys().iter().map(Key::dotted).collect(),
                };
                return Err(unknown(&place(&section), &section, nearest));
            };
            let Value::Table(keys) = value else {
                let why = format!("is a section; write [{section}] and its keys below");
                return Err(Error::invalid(place(&section), "CONFIG_INVALID", why));
            };
            for (name, value) in keys {
                let key = Key { section: section.clone(), name };
                let place = place(&key.dotted());
                if !known.contains_key(&key.name) {
                    return Err(unknown(&place, &key.dotted(), self.keys().iter().map(Key::dotted)));
                }
                self.set(&key, value, &place)?;
            }
        }
        Ok(())
    }

    fn current(&self, key: &Key) -> Option<&Value> {
        self.table.get(&key.section)?.get(&key.name)
    }

    fn set(&mut self, key: &Key, value: Value, place: &str) -> Result<()> {
        let refuse = |why: String| Error::invalid(place.to_owned(), "CONFIG_INVALID", why);
        let same_kind = match self.current(key) {
            Some(Value::Array(_)) => value.as_array().is_some_and(|items| items.iter().all(Value::is_str)),
            Some(current) => current.same_type(&value),
            None => false,
        };
        if !same_kind {
            let kind = self.current(key).map_or("nothing", kind);
            return Err(refuse(format!("expected {kind}, found {}", kind_found(&value))));
        }
        if let Some(section) = self.table.get_mut(&key.section).and_then(Value::as_table_mut) {
            section.insert(key.name.clone(), value);
        }
        self.config = read(&self.table).map_err(refuse)?;
        Ok(())
    }

    /// The text of a variable as the kind of value that the key takes: TOML where it is TOML of this kind; otherwise
    /// text for a text, and items separated by commas for a list.
    fn parse(&self, key: &Key, text: &str) -> Result<Value, String> {
        let current = self.current(key);
        let value = text.trim().parse::<Value>().ok();
        match (current, value) {
            (Some(Value::String(_)), Some(value @ Value::String(_)))
            | (Some(Value::Array(_)), Some(value @ Value::Array(_))) => Ok(value),
            (Some(Value::String(_)), _) => Ok(Value::String(text.to_owned())),
            (Some(Value::Array(_)), _) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(items.map(|item| Value::String(item.to_owned())).collect::<Vec<_>>().into())
            }
            (Some(_), Some(value)) => Ok(value),
            (Some(current), None) => Err(format!("expected {}", kind(current))),
            (None, _) => Err("unknown".to_owned()),
        }
    }
}

fn read(table: &Table) -> Result<Config, String> {
    let config: Config = table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    config.check()?;
    Ok(config)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of texts",
        Value::Float(_) => "a number",
        Value::Datetime(_) => "a date",
        Value::Table(_) => "a section",
    }
}

fn kind_found(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "another list",
        other => kind(other),
    }
}

fn unknown(place: &str, name: &str, known: impl IntoIterator<Item = String>) -> Error {
    let is_roles = name.trim_start_matches(PREFIX).eq_ignore_ascii_case("roles");
    let why = match nearest(name, known) {
        _ if is_roles => "unknown; which roles a process runs is said by the flag --roles".to_owned(),
        Some(nearest) => format!("unknown; did you mean {nearest}?"),
        None => "unknown; `openmeet-gateway config` prints every key".to_owned(),
    };
    Error::invalid(place.to_owned(), "CONFIG_UNKNOWN", why)
}

/// The known name that somebody may have meant who wrote this one. A name that differs in more than a third of its
/// letters would only mislead.
fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
    let wanted = bare(name);
    let distance = |known: &str| {
        let known = bare(known);
        // a key without its section is as near to the key as to the whole
        let key = known.rsplit_once("__").or_else(|| known.rsplit_once('.')).map_or(&*known, |(_, key)| key);
        strsim::damerau_levenshtein(&wanted, &known).min(strsim::damerau_levenshtein(&wanted, key))
    };
    let (distance, nearest) = known.into_iter().map(|known| (distance(&known), known)).min()?;
    (distance * 3 <= wanted.chars().count()).then_some(nearest)
}
