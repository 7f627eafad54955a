//! As much of an event as the change log tells, and as decides whether lists show it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{
    event::{Column, Model},
    sets::{EventStatus, EventVisibility, SourceType},
};
use sea_orm::{ConnectionTrait, FromQueryResult, QueryFilter, QuerySelect};

use crate::{domain::tenant::Tenant, error::Result, infra::db::among};

/// An event without what people read: most of its row.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Outline {
    /// Key.
    pub id: i64,
    /// Tenant.
    pub tenant_id: i64,
    /// URI of the record.
    pub record_uri: Option<String>,
    /// Where the record comes from.
    pub source_type: SourceType,
    /// Identifier there.
    pub source_id: Option<String>,
    /// Beginning.
    pub starts_at: Option<DateTime<Utc>>,
    /// Degrees to the north.
    pub latitude: Option<f64>,
    /// Degrees to the east.
    pub longitude: Option<f64>,
    status: EventStatus,
    visibility: EventVisibility,
    is_hidden: bool,
}

impl Outline {
    /// Whether lists and subscriptions show the event.
    pub fn is_listed(&self) -> bool {
        is_listed(self.is_hidden, self.visibility, self.status)
    }
}

impl From<&Model> for Outline {
    fn from(event: &Model) -> Self {
        Self {
            id: event.id,
            tenant_id: event.tenant_id,
            record_uri: event.record_uri.clone(),
            source_type: event.source_type,
            source_id: event.source_id.clone(),
            starts_at: event.starts_at,
            latitude: event.latitude,
            longitude: event.longitude,
            status: event.status,
            visibility: event.visibility,
            is_hidden: event.is_hidden,
        }
    }
}

/// The rule: what is hidden, unlisted or a draft is in no list.
pub(super) fn is_listed(is_hidden: bool, visibility: EventVisibility, status: EventStatus) -> bool {
    !is_hidden && visibility == EventVisibility::Public && status != EventStatus::Draft
}

/// The events of these records, by URI.
pub async fn by_uri(db: &impl ConnectionTrait, tenant: Tenant, uris: Vec<String>) -> Result<HashMap<String, Outline>> {
    if uris.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tenant
        .events()
        .select_only()
        .columns([
            Column::Id,
            Column::TenantId,
            Column::RecordUri,
            Column::SourceType,
            Column::SourceId,
            Column::StartsAt,
            Column::Latitude,
            Column::Longitude,
            Column::Status,
            Column::Visibility,
            Column::IsHidden,
        ])
        .filter(among(db.get_database_backend(), Column::RecordUri, uris))
        .into_model::<Outline>()
        .all(db)
        .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.record_uri.clone()?, row))).collect())
}
