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
#[derive(Debug, Default)]
pub struct Accounts {
    /// `user.id` by DID, for every DID that was asked for.
    pub ids: HashMap<String, i64>,
    /// How many were made just now.
    pub created: u64,
}

/// The account of each DID in the tenant, made as a shadow where there is none. The only way from a DID to an account.
/// The unique key (tenant, DID) decides between two that try at once.
pub async fn find_or_create(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    mut dids: Vec<String>,
    now: DateTime<Utc>,
) -> Result<Accounts> {
    dids.sort_unstable();
    dids.dedup();
    let mut accounts = Accounts { ids: find(tx, tenant, dids.clone()).await?, created: 0 };
    dids.retain(|did| !accounts.ids.contains_key(did));
    if dids.is_empty() {
        return Ok(accounts);
    }
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
    accounts.created = made.len() as u64;
    accounts.ids.extend(made);
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
