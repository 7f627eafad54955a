//! Writing events: what the persist stage may do to the table, as whole sets of rows.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use entities::{
    event,
    location::{Links, Locations},
    sets::SourceType,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ColumnTrait, ConnectionTrait, EntityTrait, IdenStatic, IntoActiveModel,
    QueryFilter, QuerySelect, sea_query::Expr,
};

use super::{geo, outline, slug};
use crate::{
    domain::{source::EventDraft, tenant::Tenant},
    error::Result,
    infra::db::{among, insert_returning, replace},
};

/// Everything about an event that does not come from its draft.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Tenant.
    pub tenant: Tenant,
    /// Organiser.
    pub user_id: i64,
    /// Where the record comes from.
    pub source: SourceType,
    /// Identifier there: DID of the organiser, or a program's own of the event.
    pub source_id: &'a str,
    /// URI of the record, or of the first one that told of the event.
    pub uri: &'a str,
    /// Version of the record.
    pub cid: Option<&'a str>,
    /// Revision that brought it.
    pub rev: &'a str,
    /// The organiser's account is not active.
    pub is_hidden: bool,
}

/// The row that a draft becomes. `held` is the row that it replaces: key, slug, counts and first sight stay.
pub fn project(
    draft: &EventDraft,
    origin: &Origin<'_>,
    held: Option<&event::Model>,
    now: DateTime<Utc>,
) -> event::Model {
    let sphere = draft.point.map(|(latitude, longitude)| geo::sphere(latitude, longitude));
    let ingested_at = held.map_or(now, |held| held.ingested_at);
    let [slug, _] = slug::candidates(&draft.name, origin.uri);
    event::Model {
        id: held.map_or(0, |held| held.id),
        tenant_id: origin.tenant.id(),
        user_id: origin.user_id,
        slug: held.map_or(slug, |held| held.slug.clone()),
        name: draft.name.clone(),
        description: draft.description.clone(),
        starts_at: draft.starts_at,
        ends_at: draft.ends_at,
        time_zone: draft.time_zone.clone(),
        status: draft.status,
        mode: draft.mode,
        visibility: draft.visibility,
        locations: Locations(draft.locations.clone()),
        links: Links(draft.links.clone()),
        latitude: draft.point.map(|(latitude, _)| latitude),
        longitude: draft.point.map(|(_, longitude)| longitude),
        sphere_x: sphere.map(|[x, _, _]| x),
        sphere_y: sphere.map(|[_, y, _]| y),
        sphere_z: sphere.map(|[_, _, z]| z),
        search_text: draft.search_text.clone(),
        source_type: origin.source,
        source_id: Some(origin.source_id.to_owned()),
        source_url: draft.page.clone(),
        record_uri: Some(origin.uri.to_owned()),
        record_cid: origin.cid.map(str::to_owned),
        record_rev: Some(origin.rev.to_owned()),
        is_hidden: origin.is_hidden,
        confirmed_count: held.map_or(0, |held| held.confirmed_count),
        maybe_count: held.map_or(0, |held| held.maybe_count),
        cancelled_count: held.map_or(0, |held| held.cancelled_count),
        created_at: draft.created_at.unwrap_or(ingested_at),
        updated_at: now,
        ingested_at,
        last_synced_at: Some(now),
    }
}

/// Whether lists and subscriptions show it.
pub fn is_listed(event: &event::Model) -> bool {
    outline::is_listed(event.is_hidden, event.visibility, event.status)
}

/// Names, as in the GraphQL type `Event`, of the fields in which two versions differ.
pub fn changed_fields(before: &event::Model, after: &event::Model) -> Vec<&'static str> {
    [
        ("name", before.name != after.name),
        ("description", before.description != after.description),
        ("startsAt", before.starts_at != after.starts_at),
        ("endsAt", before.ends_at != after.ends_at),
        ("timeZone", before.time_zone != after.time_zone),
        ("status", before.status != after.status),
        ("mode", before.mode != after.mode),
        ("visibility", before.visibility != after.visibility),
        ("locations", before.locations != after.locations),
        ("links", before.links != after.links),
        ("organizer", before.user_id != after.user_id),
        ("createdAt", before.created_at != after.created_at),
        ("source", (&before.source_id, &before.source_url) != (&after.source_id, &after.source_url)),
        // Last, for a new version that says nothing else: a foreign field was edited.
        ("atproto", before.record_cid != after.record_cid),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// The events of these records, by URI.
pub async fn by_uri(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    uris: Vec<String>,
) -> Result<HashMap<String, event::Model>> {
    if uris.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tenant.events().filter(among(db.get_database_backend(), event::Column::RecordUri, uris)).all(db).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.record_uri.clone()?, row))).collect())
}

/// The events that these accounts organise.
pub async fn by_organizer(db: &impl ConnectionTrait, tenant: Tenant, users: Vec<i64>) -> Result<Vec<event::Model>> {
    Ok(tenant.events().filter(among(db.get_database_backend(), event::Column::UserId, users)).all(db).await?)
}

/// The events with these keys.
pub async fn by_id(db: &impl ConnectionTrait, tenant: Tenant, ids: Vec<i64>) -> Result<Vec<event::Model>> {
    Ok(tenant.events().filter(among(db.get_database_backend(), event::Column::Id, ids)).all(db).await?)
}

/// Writes rows: new ones (id 0) are given an id and, where theirs is taken, another slug; the others are replaced but for
/// their key, slug and counts.
pub async fn upsert(tx: &impl ConnectionTrait, tenant: Tenant, rows: &mut [event::Model]) -> Result<()> {
    settle_slugs(tx, tenant, rows).await?;
    let keep = [
        event::Column::Id,
        event::Column::TenantId,
        event::Column::Slug,
        event::Column::RecordUri,
        event::Column::ConfirmedCount,
        event::Column::MaybeCount,
        event::Column::CancelledCount,
        event::Column::IngestedAt,
    ];
    let all = <event::Column as sea_orm::Iterable>::iter();
    let replaced: Vec<event::Column> = all.filter(|c| !keep.iter().any(|k| k.as_str() == c.as_str())).collect();
    let values = |row: &event::Model| row.clone().into_active_model().reset_all();
    let without_id = |row| event::ActiveModel { id: NotSet, ..values(row) };
    let (new, known): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.id == 0);
    replace(tx, known.into_iter().map(values).collect(), &[event::Column::Id], &replaced).await?;
    let key = [event::Column::RecordUri, event::Column::Id];
    let ids: Vec<(String, i64)> = insert_returning(tx, new.into_iter().map(without_id).collect(), None, &key).await?;
    let ids: HashMap<String, i64> = ids.into_iter().collect();
    for row in rows.iter_mut().filter(|row| row.id == 0) {
        row.id = row.record_uri.as_ref().and_then(|uri| ids.get(uri)).copied().unwrap_or_default();
    }
    Ok(())
}

/// Removes events; their answers go with them and stay in the ledger.
pub async fn delete(tx: &impl ConnectionTrait, tenant: Tenant, ids: Vec<i64>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    event::Entity::delete_many()
        .filter(event::Column::TenantId.eq(tenant.id()))
        .filter(among(tx.get_database_backend(), event::Column::Id, ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Hides or shows events.
pub async fn hide(tx: &impl ConnectionTrait, ids: Vec<i64>, is_hidden: bool, now: DateTime<Utc>) -> Result<()> {
    event::Entity::update_many()
        .col_expr(event::Column::IsHidden, Expr::value(is_hidden))
        .col_expr(event::Column::UpdatedAt, Expr::value(now))
        .filter(among(tx.get_database_backend(), event::Column::Id, ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Gives new rows whose short slug is taken, by an event of the table or of this batch, their long one.
async fn settle_slugs(tx: &impl ConnectionTrait, tenant: Tenant, rows: &mut [event::Model]) -> Result<()> {
    let wanted: Vec<String> = rows.iter().filter(|row| row.id == 0).map(|row| row.slug.clone()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let taken: Vec<String> = tenant
        .events()
        .select_only()
        .column(event::Column::Slug)
        .filter(among(tx.get_database_backend(), event::Column::Slug, wanted))
        .into_tuple()
        .all(tx)
        .await?;
    let mut taken: HashSet<String> = taken.into_iter().collect();
    for row in rows.iter_mut().filter(|row| row.id == 0) {
        if !taken.insert(row.slug.clone())
            && let Some(uri) = &row.record_uri
        {
            let [_, long] = slug::candidates(&row.name, uri);
            taken.insert(long.clone());
            row.slug = long;
        }
    }
    Ok(())
}
