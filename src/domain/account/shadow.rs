//! Shadow accounts: the provisional accounts of authors who have not joined, and of sites whose events programs bring. The
//! design's ShadowAccountService.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{sets::SourceType, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect,
    sea_query::OnConflict,
};

use crate::{
    domain::tenant::Tenant,
    error::Result,
    infra::db::{among, insert_returning},
};

/// Accounts by DID, or by name of the site.
#[derive(Debug)]
pub struct Accounts {
    /// `user.id` of everyone that was named.
    pub ids: HashMap<String, i64>,
    /// How many were made just now.
    pub created: u64,
}

/// Makes a shadow of each of these DIDs, for which [`find`] has found no account in the tenant. The unique key (tenant,
/// DID) decides between two that try at once: then the other one's account is returned.
pub async fn create(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    mut dids: Vec<String>,
    now: DateTime<Utc>,
) -> Result<Accounts> {
    let rows = dids.iter().map(|did| user::ActiveModel {
        id: NotSet,
        tenant_id: Set(tenant.id()),
        did: Set(Some(did.clone())),
        is_shadow_account: Set(true),
        provider: Set(SourceType::Bluesky),
        source_name: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    });
    let keep = OnConflict::columns([user::Column::TenantId, user::Column::Did]).do_nothing().to_owned();
    let key = [user::Column::Did, user::Column::Id];
    let made: Vec<(String, i64)> = insert_returning(tx, rows.collect(), Some(keep), &key).await?;
    let mut accounts = Accounts { created: made.len() as u64, ids: made.into_iter().collect() };
    // Somebody else has made the others in the meantime.
    dids.retain(|did| !accounts.ids.contains_key(did));
    accounts.ids.extend(find(tx, tenant, dids).await?);
    Ok(accounts)
}

/// `user.id` by DID, where there is one.
pub async fn find(db: &impl ConnectionTrait, tenant: Tenant, dids: Vec<String>) -> Result<HashMap<String, i64>> {
    if dids.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(String, i64)> = tenant
        .users()
        .select_only()
        .columns([user::Column::Did, user::Column::Id])
        .filter(among(db.get_database_backend(), user::Column::Did, dids))
        .into_tuple()
        .all(db)
        .await?;
    Ok(found.into_iter().collect())
}

/// `user.id` by name of the sites that a source brings events of; those that are new are given a shadow. To be called under
/// the lock of who writes projections; the unique key (tenant, source, name) stands behind it.
pub async fn of_sites(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    source: SourceType,
    names: Vec<String>,
    now: DateTime<Utc>,
) -> Result<Accounts> {
    let known: Vec<(String, i64)> = tenant
        .users()
        .select_only()
        .columns([user::Column::SourceName, user::Column::Id])
        .filter(user::Column::Provider.eq(source))
        .filter(among(tx.get_database_backend(), user::Column::SourceName, names.clone()))
        .into_tuple()
        .all(tx)
        .await?;
    let mut accounts = Accounts { ids: known.into_iter().collect(), created: 0 };
    let new = names.into_iter().filter(|name| !accounts.ids.contains_key(name)).map(|name| user::ActiveModel {
        id: NotSet,
        tenant_id: Set(tenant.id()),
        did: Set(None),
        is_shadow_account: Set(true),
        provider: Set(source),
        source_name: Set(Some(name)),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    });
    let new = new.collect();
    let made: Vec<(String, i64)> =
        insert_returning(tx, new, None, &[user::Column::SourceName, user::Column::Id]).await?;
    accounts.created = made.len() as u64;
    accounts.ids.extend(made);
    Ok(accounts)
}
