//! `openmeet-gateway keys`: who may bring events and answers over HTTP, and who may administer.

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use entities::sets::SourceType;
use gateway::{
    app::App,
    domain::{actor::Actor, key},
    error::Result,
};

use super::print;

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it, once: only its hash is kept
    Create(Wanted),
    /// Print all keys, one JSON object a line; the keys themselves are known to nobody
    List,
    /// Withdraw keys: they open nothing from the next request on
    Revoke {
        /// The key's prefix, as `list` prints it, or all of the key
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// What the key is for, such as "bluesky event processor"
    name: String,
    /// What it speaks for; may be given several times, or separated by commas
    #[arg(long = "source", required_unless_present = "admin", value_name = "SOURCE", value_delimiter = ',', value_parser = source())]
    sources: Vec<SourceType>,
    /// Tenants that it may write to; the first one is meant where a request names none. May be given several times, or
    /// separated by commas
    #[arg(long = "tenant", value_name = "TENANT", value_delimiter = ',', default_value = "default")]
    tenants: Vec<String>,
    /// Let it administer its tenants by GraphQL: what was put aside, keys; it may make further keys of this kind
    #[arg(long)]
    admin: bool,
}

/// A parser that knows the names, and so the nearest one.
fn source() -> impl TypedValueParser<Value = SourceType> {
    let named = |name: String| key::SOURCES.into_iter().find(|source| source.as_str() == name);
    PossibleValuesParser::new(key::SOURCES.map(SourceType::as_str))
        .try_map(move |name| named(name).ok_or("a source is one of bluesky, web, other"))
}

pub(super) async fn act(app: &App, command: Keys) -> Result<()> {
    match command {
        Keys::Create(Wanted { name, sources, tenants, admin }) => {
            let wanted = key::Wanted { name, tenants, sources, is_admin: admin };
            let made = key::create(app, &Actor::Operator, &wanted).await?;
            print(&format!("{}\n", made.text))
        }
        Keys::List => {
            key::list(app, &Actor::Operator).await?.iter().try_for_each(|row| print(&format!("{}\n", line(row))))
        }
        Keys::Revoke { keys } => {
            for named in &keys {
                key::revoke(app, &Actor::Operator, key::Named::Text(named)).await?;
            }
            print(&format!("revoked {}\n", keys.len()))
        }
    }
}

fn line(row: &key::Listed) -> serde_json::Value {
    serde_json::json!({
        "prefix": row.prefix,
        "name": row.name,
        "tenants": row.tenants,
        "sources": row.sources,
        "isAdmin": row.is_admin,
        "createdAt": row.created_at,
        "lastUsedAt": row.last_used_at,
        "revokedAt": row.revoked_at,
    })
}
