//! Tenants. Every query on a table of a tenant starts here, so that none can forget the tenant.

use entities::{audit_entry, change, event, event_attendee, service_key, service_key_tenant, session, tenant, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Select,
    sea_query::{Expr, ExprTrait, Query},
};

use crate::{
    app::App,
    domain::source::lenient::clean,
    error::{Error, Result},
    infra::db::among,
};

/// Characters of a tenant's name in addresses and headers: as long as a label of a domain name may be.
const SLUG_CHARS: usize = 63;
/// Characters of its name for people.
const NAME_CHARS: usize = 100;

/// A tenant that exists: it can only be looked up, never made from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    id: i64,
}

impl Tenant {
    /// The tenant that everything belongs to until others are made.
    pub async fn default(db: &impl ConnectionTrait) -> Result<Self> {
        let row = tenant::Entity::find().order_by_asc(tenant::Column::Id).one(db).await?;
        row.map(|row| Self { id: row.id }).ok_or_else(|| Error::NotFound { what: "tenant", key: "default".into() })
    }

    /// The tenant of this name in addresses and headers.
    pub async fn by_slug(db: &impl ConnectionTrait, slug: &str) -> Result<Option<Self>> {
        let row = tenant::Entity::find().filter(tenant::Column::Slug.eq(slug)).one(db).await?;
        Ok(row.map(|row| Self { id: row.id }))
    }

    /// The tenant with this key.
    pub async fn by_id(db: &impl ConnectionTrait, id: i64) -> Result<Option<Self>> {
        let row = tenant::Entity::find_by_id(id).one(db).await?;
        Ok(row.map(|row| Self { id: row.id }))
    }

    /// The tenant that a key means by default.
    pub fn of_key(key: &service_key::Model) -> Self {
        // The database holds no key of a tenant that does not exist.
        Self { id: key.tenant_id }
    }

    /// The tenant that an account belongs to.
    pub fn of_user(user: &user::Model) -> Self {
        // The database holds no account of a tenant that does not exist.
        Self { id: user.tenant_id }
    }

    /// The tenants, this one left out, in which one of these people has an account.
    pub async fn others_with(db: &impl ConnectionTrait, own: Self, dids: Vec<String>) -> Result<Vec<Self>> {
        let account = Query::select()
            .expr(Expr::val(1))
            .from(user::Entity)
            .and_where(user::Column::TenantId.into_expr().equals(tenant::Column::Id.as_column_ref()))
            .and_where(among(db.get_database_backend(), user::Column::Did, dids))
            .take();
        let others = tenant::Entity::find().filter(tenant::Column::Id.ne(own.id)).filter(Expr::exists(account));
        Ok(others.order_by_asc(tenant::Column::Id).all(db).await?.into_iter().map(|row| Self { id: row.id }).collect())
    }

    /// The tenant that a row of the change log belongs to.
    pub fn of_change(row: &change::Model) -> Self {
        // Written with the event, which holds the database to it.
        Self { id: row.tenant_id }
    }

    /// The tenant of this name, if the key is bound to it.
    pub async fn of_key_named(db: &impl ConnectionTrait, key: i64, slug: &str) -> Result<Option<Self>> {
        let bound = Query::select()
            .column(service_key_tenant::Column::TenantId)
            .from(service_key_tenant::Entity)
            .and_where(service_key_tenant::Column::KeyId.eq(key))
            .take();
        let named = tenant::Entity::find().filter(tenant::Column::Slug.eq(slug));
        let row = named.filter(tenant::Column::Id.in_subquery(bound)).one(db).await?;
        Ok(row.map(|row| Self { id: row.id }))
    }

    /// Every tenant, oldest first.
    pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Self>> {
        Ok(list(db).await?.into_iter().map(|row| Self { id: row.id }).collect())
    }

    /// Value of the `tenant_id` columns.
    pub fn id(self) -> i64 {
        self.id
    }

    /// Events of the tenant, hidden ones included.
    pub fn events(self) -> Select<event::Entity> {
        event::Entity::find().filter(event::Column::TenantId.eq(self.id))
    }

    /// Answers in the tenant, hidden ones included.
    pub fn attendees(self) -> Select<event_attendee::Entity> {
        event_attendee::Entity::find().filter(event_attendee::Column::TenantId.eq(self.id))
    }

    /// Accounts of the tenant.
    pub fn users(self) -> Select<user::Entity> {
        user::Entity::find().filter(user::Column::TenantId.eq(self.id))
    }

    /// Sessions of the tenant's members.
    pub fn sessions(self) -> Select<session::Entity> {
        session::Entity::find().filter(session::Column::TenantId.eq(self.id))
    }

    /// What was done to the tenant's accounts.
    pub fn audit(self) -> Select<audit_entry::Entity> {
        audit_entry::Entity::find().filter(audit_entry::Column::TenantId.eq(self.id))
    }

    /// Change log of the tenant.
    pub fn changes(self) -> Select<change::Entity> {
        change::Entity::find().filter(change::Column::TenantId.eq(self.id))
    }
}

/// Makes a tenant. Nothing is in it, and no key is bound to it.
///
/// Errors: `TENANT_SLUG_INVALID`, `TENANT_NAME_INVALID`, `TENANT_EXISTS`.
pub async fn create(app: &App, slug: &str, name: &str) -> Result<Tenant> {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner = |byte: u8| byte == b'-' || is_edge(Some(byte));
    let is_slug = is_edge(slug.bytes().next()) && is_edge(slug.bytes().last()) && slug.bytes().all(inner);
    if !is_slug || slug.len() > SLUG_CHARS {
        let why = format!("a slug is 1 to {SLUG_CHARS} of a to z, 0 to 9 and, within, dashes");
        return Err(Error::invalid("slug", "TENANT_SLUG_INVALID", why));
    }
    let name = clean(name);
    if name.is_empty() || name.contains('\n') || name.chars().count() > NAME_CHARS {
        let why = format!("a name is one line of 1 to {NAME_CHARS} characters");
        return Err(Error::invalid("name", "TENANT_NAME_INVALID", why));
    }
    let name = &name;
    app.db
        .transact(|tx| async move {
            if Tenant::by_slug(&*tx, slug).await?.is_some() {
                return Err(Error::invalid("slug", "TENANT_EXISTS", "there is a tenant of this name"));
            }
            let row = tenant::ActiveModel {
                id: NotSet,
                slug: Set(slug.to_owned()),
                name: Set(name.clone()),
                created_at: Set(app.clock.now()),
            };
            Ok(Tenant { id: tenant::Entity::insert(row).exec(&*tx).await?.last_insert_id })
        })
        .await
}

/// Every tenant's row, oldest first.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<tenant::Model>> {
    Ok(tenant::Entity::find().order_by_asc(tenant::Column::Id).all(db).await?)
}
