//! Changes and events, made the way the persist stage makes them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use chrono::{DateTime, Utc};
use entities::{
    change, event,
    location::{Links, Locations, Texts},
    sets::{ChangeOperation, EventMode, EventStatus, EventVisibility, SourceType},
    user,
};
use gateway::{
    domain::{change::LOCK, tenant::Tenant},
    error::Result,
    infra::db::{Db, lock},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    EntityTrait, IntoActiveModel,
};

/// Commits changes in one transaction; their ids, in order.
pub(crate) async fn commit(db: &Db, rows: Vec<change::ActiveModel>) -> Result<Vec<i64>> {
    let rows = &rows;
    db.transact(|tx| async move {
        lock(&*tx, &LOCK).await?;
        let written = change::Entity::insert_many(rows.clone()).exec_with_returning(&*tx).await?;
        let mut ids: Vec<i64> = written.into_iter().map(|row| row.id).collect();
        ids.sort_unstable();
        Ok(ids)
    })
    .await
}

/// Seconds after 1970.
pub(crate) fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// Changes that differ in nothing.
pub(crate) fn rows(tenant: Tenant, count: usize) -> Vec<change::ActiveModel> {
    (0..count).map(|_| row(tenant, 1)).collect()
}

/// A change, not yet written.
pub(crate) fn row(tenant: Tenant, event_id: i64) -> change::ActiveModel {
    let model = change::Model {
        id: 0,
        tenant_id: tenant.id(),
        event_id,
        event_uri: Some("at://did:plc:a/community.lexicon.calendar.event/1".into()),
        operation: ChangeOperation::Updated,
        changed_fields: Texts(vec!["name".into()]),
        source_type: SourceType::Bluesky,
        organizer_did: Some("did:plc:a".into()),
        starts_at: None,
        latitude: None,
        longitude: None,
        occurred_at: instant(0),
        ingested_at: instant(0),
    };
    change::ActiveModel { id: NotSet, ..model.into_active_model().reset_all() }
}

/// Writes an event with an organiser of its own; its id.
pub(crate) async fn event(db: &Db, tenant: Tenant, slug: &str, with: impl Fn(&mut event::ActiveModel)) -> i64 {
    let (tenant_id, now, with) = (tenant.id(), instant(0), &with);
    let stored = db.transact(|tx| async move {
        let organizer = user::ActiveModel {
            id: NotSet,
            tenant_id: Set(tenant_id),
            did: Set(Some(format!("did:plc:{slug}"))),
            is_shadow_account: Set(true),
            provider: Set(SourceType::Bluesky),
            source_name: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
            ..Default::default()
        };
        let mut event = event::ActiveModel {
            tenant_id: Set(tenant_id),
            user_id: Set(organizer.insert(&*tx).await?.id),
            slug: Set(slug.to_owned()),
            name: Set(slug.to_owned()),
            status: Set(EventStatus::Scheduled),
            mode: Set(EventMode::InPerson),
            visibility: Set(EventVisibility::Public),
            locations: Set(Locations::default()),
            links: Set(Links::default()),
            search_text: Set(slug.to_owned()),
            source_type: Set(SourceType::Bluesky),
            is_hidden: Set(false),
            confirmed_count: Set(0),
            maybe_count: Set(0),
            cancelled_count: Set(0),
            created_at: Set(now),
            updated_at: Set(now),
            ingested_at: Set(now),
            ..Default::default()
        };
        with(&mut event);
        Ok(event.insert(&*tx).await?)
    });
    stored.await.unwrap().id
}
