//! Tenants. Every query on a table of a tenant starts here, so that none can forget the tenant.

use entities::{change, event, event_attendee, service_key, tenant, user};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Select};

use crate::error::{Error, Result};

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

    /// The tenant that a key is bound to.
    pub fn of_key(key: &service_key::Model) -> Self {
        // The database holds no key of a tenant that does not exist.
        Self { id: key.tenant_id }
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

    /// Change log of the tenant.
    pub fn changes(self) -> Select<change::Entity> {
        change::Entity::find().filter(change::Column::TenantId.eq(self.id))
    }
}
