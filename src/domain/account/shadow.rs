//! Shadow accounts: the provisional accounts of authors who have not joined. The design's ShadowAccountService.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{sets::SourceType, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, QueryFilter, QuerySelect,
    sea_query::OnConflict,
};

use crate::{
    domain::tenant::Tenant,
    error::Result,
    infra::db::{among, insert_returning},
};

/// Accounts by DID.
#[derive(Debug)]
pub struct Accounts {
    /// `user.id` by DID, for every DID that was named.
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
        created_at: Set(now),
        updated_at: Set(now),
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
