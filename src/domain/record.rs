//! The ledger, as readers see it: the newest known version of a record. Store functions.

use std::{collections::HashMap, sync::Arc};

use entities::source_record;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::{error::Result, infra::db::among};

/// Living records by AT-URI.
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
