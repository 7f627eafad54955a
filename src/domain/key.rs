//! Service keys: what a program shows to bring events and answers over HTTP.
//!
//! A key is told once, when it is made, and only its hash is kept (`src/domain/secret.rs`). It is bound to tenants and to the
//! source types that it speaks for, may be given the right to administer those tenants, and opens until it is revoked: a
//! revoked key is refused from the next request on, by every process.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use entities::{location::Texts, service_key as key, service_key_tenant as of, sets::SourceType, tenant};
use sea_orm::{
    ActiveEnum,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait as _, EntityTrait, QueryFilter, QueryOrder, Select,
    sea_query::{Expr, Query},
};
use tracing::{info, warn};

use crate::{
    app::App,
    domain::{
        actor::Actor,
        page::{self, KeyKind, Order, Page, Position, Slice},
        secret::{self, PREFIX},
        source::lenient::clean,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db::among,
};

/// Source types that a key can speak for: all but our own.
pub const SOURCES: [SourceType; 3] = [SourceType::Bluesky, SourceType::Web, SourceType::Other];

/// What every key begins with, so that one that has leaked is found by whoever searches for such things.
const MARK: &str = "omk_";
/// Longest name.
const NAME_CHARS: usize = 100;

/// A key that was shown and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKey {
    /// Its public part; fit for logs and as the id of what is counted for it.
    pub prefix: String,
    /// The tenant that the request means: the key's first one, unless it [named another](Self::enter).
    pub tenant: Tenant,
    /// Whether it administers that tenant.
    pub is_admin: bool,
    id: i64,
    sources: BTreeSet<SourceType>,
}

impl ServiceKey {
    /// Whether it may bring what comes from there.
    pub fn speaks_for(&self, source: SourceType) -> bool {
        self.sources.contains(&source)
    }

    /// What an administrator who is a person brings with: it speaks for every source, as a key would that they made.
    pub(super) fn of_administrator(name: &str, tenant: Tenant) -> Self {
        Self { prefix: name.to_owned(), tenant, is_admin: true, id: 0, sources: SOURCES.into() }
    }

    /// The same key in that one of its tenants that a request names.
    ///
    /// Errors: `Forbidden` for any other, whether there is such a tenant or not.
    pub async fn enter(self, app: &App, slug: &str) -> Result<Self> {
        let tenant = Tenant::of_key_named(app.db.read(), self.id, slug).await?;
        let tenant = tenant.ok_or(Error::Forbidden { why: "this key is not of this tenant" })?;
        Ok(Self { tenant, ..self })
    }
}

/// A key that is to be made.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What it is for: one line of 1 to 100 characters.
    pub name: String,
    /// Names of its tenants, of which the first is meant where a request names none; the actor's own where none is given.
    pub tenants: Vec<String>,
    /// What it speaks for; at least one, unless it administers.
    pub sources: Vec<SourceType>,
    /// Whether it administers its tenants.
    pub is_admin: bool,
}

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The key itself, which is told nobody again.
    pub text: String,
    /// What is kept of it.
    pub row: key::Model,
}

/// How a key is named to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// By the id of its row.
    Id(i64),
    /// By its prefix, or by all of it.
    Text(&'a str),
}

/// A key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its public part.
    pub prefix: String,
    /// What it is for.
    pub name: String,
    /// Names of its tenants, the one that is meant by default first.
    pub tenants: Vec<String>,
    /// What it speaks for.
    pub sources: Vec<String>,
    /// Whether it administers its tenants.
    pub is_admin: bool,
    /// Creation.
    pub created_at: DateTime<Utc>,
    /// Latest use, to about an hour.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was withdrawn.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a key of tenants that the actor administers.
///
/// Errors: `KEY_NAME_INVALID`, `KEY_SOURCES_INVALID`, `NotFound` for a tenant that does not exist, and those of
/// [`Actor::administers`].
pub async fn create(app: &App, actor: &Actor, wanted: &Wanted) -> Result<Made> {
    let own = match actor {
        Actor::Key(key) => key.tenant,
        Actor::Person(person) => person.tenant,
        Actor::Anonymous | Actor::Operator => app.tenant,
    };
    let mut bound: Vec<Tenant> = Vec::new();
    for slug in &wanted.tenants {
        let missing = || Error::NotFound { what: "tenant", key: slug.chars().take(NAME_CHARS).collect() };
        let tenant = Tenant::by_slug(app.db.read(), slug).await?.ok_or_else(missing)?;
        if !bound.contains(&tenant) {
            bound.push(tenant);
        }
    }
    let first = bound.first().copied().unwrap_or(own);
    if bound.is_empty() {
        bound.push(own);
    }
    bound.iter().try_for_each(|tenant| actor.administers(*tenant))?;
    let name = clean(&wanted.name);
    if name.is_empty() || name.contains('\n') || name.chars().count() > NAME_CHARS {
        let why = format!("a name is one line of 1 to {NAME_CHARS} characters");
        return Err(Error::invalid("name", "KEY_NAME_INVALID", why));
    }
    let sources: BTreeSet<SourceType> = wanted.sources.iter().copied().collect();
    let is_for_something = wanted.is_admin || !sources.is_empty();
    if !is_for_something || sources.iter().any(|source| !SOURCES.contains(source)) {
        let why = "a key that does not administer speaks for at least one of bluesky, web, other";
        return Err(Error::invalid("sources", "KEY_SOURCES_INVALID", why));
    }
    let secret::Made { text, prefix, hash } = secret::new(MARK)?;
    let row = &key::ActiveModel {
        id: NotSet,
        tenant_id: Set(first.id()),
        name: Set(name),
        prefix: Set(prefix),
        hash: Set(hash),
        source_types: Set(Texts(sources.iter().map(|source| source.as_str().to_owned()).collect())),
        is_admin: Set(wanted.is_admin),
        created_at: Set(app.clock.now()),
        last_used_at: Set(None),
        revoked_at: Set(None),
    };
    let bound = &bound;
    let insert = app.db.transact(|tx| async move {
        let row = key::Entity::insert(row.clone()).exec_with_returning(&*tx).await?;
        let bound = bound.iter().map(|tenant| of::ActiveModel { key_id: Set(row.id), tenant_id: Set(tenant.id()) });
        of::Entity::insert_many(bound).exec_without_returning(&*tx).await?;
        Ok(row)
    });
    let row = insert.await?;
    info!(key = row.prefix, by = actor.name(), is_admin = row.is_admin, "a service key was made");
    Ok(Made { text, row })
}

/// The keys that an actor may see, revoked ones too: all of them for the operator, those that open its tenant, whether others
/// too or not, for an administrator.
fn visible(actor: &Actor) -> Result<Select<key::Entity>> {
    let all = key::Entity::find();
    if *actor == Actor::Operator {
        return Ok(all);
    }
    let tenant = actor.administers_own_tenant()?;
    let bound = Query::select()
        .column(of::Column::KeyId)
        .from(of::Entity)
        .and_where(of::Column::TenantId.eq(tenant.id()))
        .take();
    Ok(all.filter(key::Column::Id.in_subquery(bound)))
}

/// All keys that the actor may see, oldest first.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<Listed>> {
    let rows = visible(actor)?.order_by_asc(key::Column::Id).all(app.db.read()).await?;
    let tenants = tenant::Entity::find().all(app.db.read()).await?;
    let bound = of::Entity::find().order_by_asc(of::Column::TenantId).all(app.db.read()).await?;
    let slug = |id: i64| tenants.iter().find(|tenant| tenant.id == id).map(|tenant| tenant.slug.clone());
    let of = |row: &key::Model| {
        let others = bound.iter().filter(|bound| bound.key_id == row.id && bound.tenant_id != row.tenant_id);
        std::iter::once(row.tenant_id).chain(others.map(|bound| bound.tenant_id)).filter_map(slug).collect()
    };
    let listed = rows.into_iter().map(|row| Listed {
        tenants: of(&row),
        prefix: row.prefix,
        name: row.name,
        sources: row.source_types.0,
        is_admin: row.is_admin,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
    });
    Ok(listed.collect())
}

/// A page of the keys that the actor may see, newest first.
pub async fn page(app: &App, actor: &Actor, slice: &Slice) -> Result<Page<key::Model>> {
    order().page(app.db.read(), visible(actor)?, slice).await
}

/// How many keys the actor may see.
pub async fn count(app: &App, actor: &Actor) -> Result<u64> {
    page::count(app.db.read(), visible(actor)?).await
}

/// A key by the id of its row, if there is one that the actor may see.
pub async fn find(app: &App, actor: &Actor, id: i64) -> Result<Option<key::Model>> {
    Ok(visible(actor)?.filter(key::Column::Id.eq(id)).one(app.db.read()).await?)
}

/// How the list is cut into pages.
pub(crate) fn order() -> Order<key::Entity> {
    Order {
        tag: b'k',
        key: key::Column::CreatedAt,
        kind: KeyKind::Instant,
        nullable: false,
        descending: true,
        id: key::Column::Id,
        position: |row| Position { key: Some(row.created_at.timestamp_micros()), id: row.id },
    }
}

/// Withdraws a key that the actor may see. One that was withdrawn before stays as it is.
///
/// Errors: `NotFound`; `Forbidden` to the administrator of one tenant for a key that opens others too.
pub async fn revoke(app: &App, actor: &Actor, named: Named<'_>) -> Result<key::Model> {
    let (condition, shown) = match named {
        Named::Id(id) => (key::Column::Id.eq(id), id.to_string()),
        Named::Text(text) => {
            let prefix = prefix_of(text).unwrap_or_else(|| text.to_owned());
            // A whole key that is none of ours may be a secret somewhere else: it is not repeated.
            let shown = prefix.chars().take(MARK.len() + PREFIX).collect();
            (key::Column::Prefix.eq(prefix), shown)
        }
    };
    let (this, shown) = (&visible(actor)?.filter(condition), &shown);
    let revoked = app.db.transact(|tx| async move {
        let missing = || Error::NotFound { what: "service key", key: shown.clone() };
        let found = this.clone().one(&*tx).await?.ok_or_else(missing)?;
        if found.revoked_at.is_some() {
            return Ok(found);
        }
        // The operator revokes what it likes.
        if *actor != Actor::Operator {
            let own = actor.administers_own_tenant()?;
            let bound = of::Entity::find().filter(of::Column::KeyId.eq(found.id)).all(&*tx).await?;
            if bound.iter().any(|bound| bound.tenant_id != own.id()) {
                return Err(Error::Forbidden {
                    why: "this key opens other tenants too: `openmeet-gateway keys revoke`",
                });
            }
        }
        let now = Some(app.clock.now());
        key::Entity::update_many()
            .col_expr(key::Column::RevokedAt, Expr::value(now))
            .filter(key::Column::Id.eq(found.id))
            .exec(&*tx)
            .await?;
        Ok(key::Model { revoked_at: now, ..found })
    });
    let revoked = revoked.await?;
    info!(key = revoked.prefix, by = actor.name(), "a service key was revoked");
    Ok(revoked)
}

/// Who shows this key; `None` for one that does not open, for whatever reason.
pub async fn verify(app: &App, text: &str) -> Result<Option<ServiceKey>> {
    // What has not the form of a key costs no query.
    let Some(prefix) = prefix_of(text) else { return Ok(None) };
    let found = key::Entity::find().filter(key::Column::Prefix.eq(prefix)).one(app.db.read()).await?;
    let is_this = |row: &key::Model| secret::is(text, &row.hash);
    let Some(row) = found.filter(|row| is_this(row) && row.revoked_at.is_none()) else { return Ok(None) };
    note_use(app, &row).await;
    let tenant = Tenant::of_key(&row);
    let sources = sources_of(&row);
    Ok(Some(ServiceKey { id: row.id, prefix: row.prefix, tenant, is_admin: row.is_admin, sources }))
}

/// Those of these texts that open as keys, with their rows. That they were used is for the caller to note.
pub(super) async fn find_all<'a>(app: &App, texts: &[&'a str]) -> Result<HashMap<&'a str, key::Model>> {
    let texts: Vec<(String, &str)> = texts.iter().filter_map(|text| Some((prefix_of(text)?, *text))).collect();
    if texts.is_empty() {
        return Ok(HashMap::new());
    }
    let db = app.db.read();
    let prefixes = texts.iter().map(|(prefix, _)| prefix.clone()).collect();
    let these = among(db.get_database_backend(), key::Column::Prefix, prefixes);
    let rows = key::Entity::find().filter(these).filter(key::Column::RevokedAt.is_null()).all(db).await?;
    let rows: HashMap<&str, &key::Model> = rows.iter().map(|row| (&*row.prefix, row)).collect();
    let row_of = |(prefix, text): (String, &'a str)| {
        let row = rows.get(&*prefix).filter(|row| secret::is(text, &row.hash))?;
        Some((text, key::Model::clone(row)))
    };
    Ok(texts.into_iter().filter_map(row_of).collect())
}

/// What a key speaks for. For what this version has no name for, it does not.
pub fn sources_of(row: &key::Model) -> BTreeSet<SourceType> {
    row.source_types.0.iter().filter_map(|name| SourceType::try_from_value(name).ok()).collect()
}

/// Notes that the key is in use, at most once an hour: every request would wait for a write. It can wait for the next use
/// when it fails.
pub(super) async fn note_use(app: &App, row: &key::Model) {
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

/// The public part of what has the form of a key: `omk_PREFIX`.
fn prefix_of(text: &str) -> Option<String> {
    secret::prefix_of(MARK, text)
}
