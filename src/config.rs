//! The configuration: what can be set, where it comes from, and what is refused.
//!
//! The embedded `config.default.toml` holds every key with its default and its explanation. A file, the environment
//! and the command line override it, in this order (see [`load`]). A key that is not in the default file is refused
//! with the nearest known one, and so is a value of the wrong kind or out of its range; the error names the place that
//! it came from. Nothing here prints a secret: `Debug` hides the passwords of URLs, and errors never repeat a value.
//!
//! This is the only module that reads the process environment.

mod checks;
mod layers;
mod sections;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Table;

pub use self::sections::{
    Access, Database, Graphql, Http, Identity, Ingest, KeyValue, Log, LogFormat, Network, OAuth, Queue, Secrets,
    Session, Start, Streams, Telemetry,
};
use crate::error::{Error, Result};

/// The embedded defaults: every key, explained.
pub const DEFAULT: &str = include_str!("config.default.toml");

/// The variable that names the configuration file.
const FILE_VARIABLE: &str = "GATEWAY_CONFIG";
/// The file that is read when no other is named and it exists.
const FILE_NAME: &str = "gateway.toml";

/// The whole configuration, one section a field.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept.
    pub database: Database,
    /// Where locks, rates and cached answers are.
    pub kv: KeyValue,
    /// What stands between reading and processing.
    pub queue: Queue,
    /// The HTTP server.
    pub http: Http,
    /// Limits of the GraphQL API.
    pub graphql: Graphql,
    /// Where records come from.
    pub streams: Streams,
    /// How the rest of the network is reached.
    pub network: Network,
    /// How long people stay signed in.
    pub session: Session,
    /// Who may do more than others.
    pub access: Access,
    /// How records are processed.
    pub ingest: Ingest,
    /// How accounts are looked up.
    pub identity: Identity,
    /// How people sign in.
    pub oauth: OAuth,
    /// What secrets are sealed with.
    pub secrets: Secrets,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub telemetry: Telemetry,
}

/// A configuration file that was read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Where it was found, for errors.
    pub path: &'a Path,
    /// Its contents.
    pub text: &'a str,
}

/// The configuration of this process: defaults, then a file (`path`, else `$GATEWAY_CONFIG`, else `./gateway.toml`
/// where it exists), then the environment, then `flags` (a table of sections, as in the file).
///
/// Errors: [`Error::Invalid`] with the code `CONFIG_UNREADABLE` when a named file cannot be read, and those of [`load`].
pub fn from_process(path: Option<&Path>, flags: Table) -> Result<Config> {
    let variables = variables()?;
    let named = path.map(Path::to_owned).or_else(|| {
        variables.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty()).map(|(_, v)| PathBuf::from(v))
    });
    let path = named.unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let text = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(FILE_NAME) => None,
        Err(error) => {
            let why = format!("{} cannot be read: {error}", path.display());
            return Err(Error::invalid("configuration file", "CONFIG_UNREADABLE", why));
        }
    };
    load(text.as_deref().map(|text| File { path: &path, text }), variables, flags)
}

/// The configuration that the defaults, a file, environment variables and flags make, the later over the earlier.
///
/// Of the variables, those named `AMQP_URL`, `DATABASE_URL`, `REDIS_URL` or `GATEWAY_…` count. Pure: reads nothing but its arguments.
///
/// Errors: [`Error::Invalid`] with the code `CONFIG_UNKNOWN` for an unknown key, `CONFIG_INVALID` for a value of the
/// wrong kind or out of its range, `CONFIG_UNREADABLE` for a file that is not TOML.
pub fn load(
    file: Option<File<'_>>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: Table,
) -> Result<Config> {
    let mut layers = layers::Layers::new()?;
    if let Some(file) = file {
        layers.file(file)?;
    }
    layers.environment(variables)?;
    layers.flags(flags)?;
    Ok(layers.finish())
}

/// The environment as far as it concerns us. Variables of others need not be Unicode; ours must.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variables() -> Result<Vec<(String, String)>> {
    std::env::vars_os().filter_map(|(name, value)| unicode(&name, value).transpose()).collect()
}

fn unicode(name: &OsString, value: OsString) -> Result<Option<(String, String)>> {
    let Some(name) = name.to_str().filter(|name| layers::concerns_us(name)) else { return Ok(None) };
    match value.into_string() {
        Ok(value) => Ok(Some((name.to_owned(), value))),
        Err(_) => {
            Err(Error::invalid(format!("environment variable {name}"), "CONFIG_INVALID", "the value is not UTF-8"))
        }
    }
}
