//! Service keys: what a program shows to bring events and answers over HTTP.
//!
//! A key is 256 random bits behind a public prefix. It is told once, when it is made; only its SHA-256 is kept, which needs
//! no salt and no slow hash, since nobody guesses 256 bits. A key is bound to one tenant and to the source types that it
//! speaks for, and opens until it is revoked: a revoked key is refused from the next request on, by every process.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE32_NOPAD_NOCASE;
use entities::{location::Texts, service_key as key, sets::SourceType, tenant};
use sea_orm::{
    ActiveEnum,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder,
    sea_query::Expr,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::warn;

use crate::{
    app::App,
    domain::{source::lenient::clean, tenant::Tenant},
    error::{Error, Result},
};

/// Source types that a key can speak for: all but our own.
pub const SOURCES: [SourceType; 3] = [SourceType::Bluesky, SourceType::Web, SourceType::Other];

/// What every key begins with, so that one that has leaked is found by whoever searches for such things.
const MARK: &str = "omk_";
/// Characters of the prefix: 80 random bits, which no two keys share.
const PREFIX: usize = 16;
/// Bytes that are random and secret.
const SECRET: usize = 32;
/// Longest name.
const NAME_CHARS: usize = 100;

/// A key that was shown and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKey {
    /// Its public part; fit for logs and as the id of what is counted for it.
    pub prefix: String,
    /// The one tenant that it may write to.
    pub tenant: Tenant,
    sources: BTreeSet<SourceType>,
}

impl ServiceKey {
    /// Whether it may bring what comes from there.
    pub fn speaks_for(&self, source: SourceType) -> bool {
        self.sources.contains(&source)
    }
}

/// A key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its public part.
    pub prefix: String,
    /// What it is for.
    pub name: String,
    /// The tenant's name.
    pub tenant: String,
    /// What it speaks for.
    pub sources: Vec<String>,
    /// Creation.
    pub created_at: DateTime<Utc>,
    /// Latest use, to about an hour.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was withdrawn.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a key; what is returned is told nobody again.
///
/// Errors: `KEY_NAME_INVALID`, `KEY_SOURCES_INVALID`, and `NotFound` for a tenant that does not exist.
pub async fn create(app: &App, tenant: &str, name: &str, sources: &[SourceType]) -> Result<String> {
    let name = clean(name);
    if name.is_empty() || name.contains('\n') || name.chars().count() > NAME_CHARS {
        let why = format!("a name is one line of 1 to {NAME_CHARS} characters");
        return Err(Error::invalid("name", "KEY_NAME_INVALID", why));
    }
    let sources: BTreeSet<SourceType> = sources.iter().copied().collect();
    if sources.is_empty() || sources.iter().any(|source| !SOURCES.contains(source)) {
        let why = "a key speaks for at least one of bluesky, web, other";
        return Err(Error::invalid("sources", "KEY_SOURCES_INVALID", why));
    }
    let text = new_key()?;
    let Some(prefix) = prefix_of(&text) else { return Err(Error::bug(anyhow::anyhow!("a new key has no prefix"))) };
    let missing = || Error::NotFound { what: "tenant", key: tenant.to_owned() };
    let (name, prefix, hash, sources) = (&name, &prefix, &hash(&text), &sources);
    app.db
        .transact(|tx| async move {
            let tenant = Tenant::by_slug(&*tx, tenant).await?.ok_or_else(missing)?;
            let row = key::ActiveModel {
                id: NotSet,
                tenant_id: Set(tenant.id()),
                name: Set(name.clone()),
                prefix: Set(prefix.clone()),
                hash: Set(hash.to_vec()),
                source_types: Set(Texts(sources.iter().map(|source| source.as_str().to_owned()).collect())),
                created_at: Set(app.clock.now()),
                last_used_at: Set(None),
                revoked_at: Set(None),
            };
            key::Entity::insert(row).exec_without_returning(&*tx).await?;
            Ok(())
        })
        .await?;
    Ok(text)
}

/// All keys of all tenants, revoked ones too, oldest first.
pub async fn list(app: &App) -> Result<Vec<Listed>> {
    let rows = key::Entity::find().order_by_asc(key::Column::Id).all(app.db.read()).await?;
    let tenants = tenant::Entity::find().all(app.db.read()).await?;
    let slug = |id: i64| tenants.iter().find(|tenant| tenant.id == id).map(|tenant| tenant.slug.clone());
    let listed = rows.into_iter().map(|row| Listed {
        tenant: slug(row.tenant_id).unwrap_or_default(),
        prefix: row.prefix,
        name: row.name,
        sources: row.source_types.0,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
    });
    Ok(listed.collect())
}

/// Withdraws a key, named by its prefix or by all of it. One that was withdrawn before stays as it is.
///
/// Errors: `NotFound`.
pub async fn revoke(app: &App, named: &str) -> Result<()> {
    let prefix = prefix_of(named).unwrap_or_else(|| named.to_owned());
    let prefix = &prefix;
    app.db
        .transact(|tx| async move {
            let this = key::Column::Prefix.eq(prefix);
            let found = key::Entity::find().filter(this.clone()).one(&*tx).await?;
            // A whole key that is none of ours may be a secret somewhere else: it is not repeated.
            let shown = || prefix.chars().take(MARK.len() + PREFIX).collect();
            let found = found.ok_or_else(|| Error::NotFound { what: "service key", key: shown() })?;
            if found.revoked_at.is_none() {
                key::Entity::update_many()
                    .col_expr(key::Column::RevokedAt, Expr::value(app.clock.now()))
                    .filter(this)
                    .exec(&*tx)
                    .await?;
            }
            Ok(())
        })
        .await
}

/// Who shows this key; `None` for one that does not open, for whatever reason.
pub async fn verify(app: &App, text: &str) -> Result<Option<ServiceKey>> {
    // What has not the form of a key costs no query.
    let Some(prefix) = prefix_of(text) else { return Ok(None) };
    let found = key::Entity::find().filter(key::Column::Prefix.eq(prefix)).one(app.db.read()).await?;
    let is_this = |row: &key::Model| bool::from(row.hash.as_slice().ct_eq(&hash(text)));
    let Some(row) = found.filter(|row| is_this(row) && row.revoked_at.is_none()) else { return Ok(None) };
    note_use(app, &row).await;
    let tenant = Tenant::of_key(&row);
    // What this version has no name for, it speaks for nobody.
    let sources = row.source_types.0.iter().filter_map(|name| SourceType::try_from_value(name).ok()).collect();
    Ok(Some(ServiceKey { prefix: row.prefix, tenant, sources }))
}

/// Notes that the key is in use, at most once an hour: every request would wait for a write. It can wait for the next use
/// when it fails.
async fn note_use(app: &App, row: &key::Model) {
    let (id, now) = (row.id, app.clock.now());
    let coarse = now - TimeDelta::hours(1);
    if row.last_used_at.is_some_and(|used| used > coarse) {
        return;
    }
    let noted = app.db.transact(|tx| async move {
        let is_due = Condition::any().add(key::Column::LastUsedAt.is_null()).add(key::Column::LastUsedAt.lte(coarse));
        key::Entity::update_many()
            .col_expr(key::Column::LastUsedAt, Expr::value(now))
            .filter(key::Column::Id.eq(id))
            .filter(is_due)
            .exec(&*tx)
            .await?;
        Ok(())
    });
    if let Err(error) = noted.await {
        warn!(key = row.prefix, error = error.chain(), "the use of a key was not noted");
    }
}

/// `omk_PREFIX_SECRET`, both in lower-case base 32: a double click selects all of it.
fn new_key() -> Result<String> {
    let mut random = [0_u8; SECRET + PREFIX * 5 / 8];
    getrandom::fill(&mut random).map_err(|error| Error::bug(anyhow::anyhow!("no random bytes: {error}")))?;
    let (secret, prefix) = random.split_at(SECRET);
    let encode = |bytes: &[u8]| BASE32_NOPAD_NOCASE.encode(bytes).to_ascii_lowercase();
    Ok(format!("{MARK}{}_{}", encode(prefix), encode(secret)))
}

/// The public part of what has the form of a key: `omk_PREFIX`.
fn prefix_of(text: &str) -> Option<String> {
    let is_base32 = |part: &str| part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    let (prefix, secret) = text.strip_prefix(MARK)?.split_once('_')?;
    let is_key = prefix.len() == PREFIX && secret.len() == (SECRET * 8).div_ceil(5);
    (is_key && is_base32(prefix) && is_base32(secret)).then(|| format!("{MARK}{prefix}"))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
