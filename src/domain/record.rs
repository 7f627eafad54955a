//! The ledger, as readers see it: the newest known version of a record. Store functions.

use std::{collections::HashMap, sync::Arc};

use entities::{event_source, source_record};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::{domain::tenant::Tenant, error::Result, infra::db::among};

/// Living records by URI.
pub async fn by_uris(
    db: &impl ConnectionTrait,
    uris: Vec<String>,
) -> Result<HashMap<String, Arc<source_record::Model>>> {
    let rows = source_record::Entity::find()
        .filter(among(db.get_database_backend(), source_record::Column::Uri, uris))
        .filter(source_record::Column::DeletedAt.is_null())
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.uri.clone(), Arc::new(row))).collect())
}

/// Who wrote a living record: an account's DID, or the name of a source.
pub async fn author_of(db: &impl ConnectionTrait, uri: &str) -> Result<Option<String>> {
    let author = source_record::Entity::find_by_id(uri)
        .select_only()
        .column(source_record::Column::Did)
        .filter(source_record::Column::DeletedAt.is_null());
    Ok(author.into_tuple().one(db).await?)
}

/// The event that each of these records of programs tells of, by the record's URI.
pub async fn events_of(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    uris: Vec<String>,
) -> Result<HashMap<String, String>> {
    if uris.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, String)> = event_source::Entity::find()
        .select_only()
        .columns([event_source::Column::Uri, event_source::Column::EventUri])
        .filter(event_source::Column::TenantId.eq(tenant.id()))
        .filter(among(db.get_database_backend(), event_source::Column::Uri, uris))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().collect())
}
