//! Two accounts of one person become one.
//!
//! Everything goes over, or nothing: events and answers; of two answers to one event the newer one; and what an account is
//! found by, its DID or its site, so that whatever comes later of it belongs to the account that stays. An account has at
//! most one of each, and two accounts with two DIDs are two people. Of the profile, what the account that stays has counts;
//! what it lacks it takes over; and it was first seen when the earlier of the two was.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use entities::{event, event_attendee as attendee, user};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::Expr,
};

use super::told;
use crate::{
    domain::{event::write as events, rsvp::write as rsvp, tenant::Tenant},
    error::{Error, Result},
};

/// What went over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Events that have another organiser now.
    pub events: u64,
    /// Answers that are another account's now.
    pub answers: u64,
    /// Answers that a newer one of the same person to the same event took the place of.
    pub superseded: u64,
}

/// Gives everything that `from` has to `into`, and deletes `from`. To be called under the lock of who writes projections,
/// with both rows held. The account as it is now, what went over, and how many changes of events were told.
///
/// Errors: `BOTH_HAVE_DIDS`, `BOTH_ARE_SITES`.
pub(super) async fn unite(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    (from, into): (&user::Model, &user::Model),
    now: DateTime<Utc>,
) -> Result<(user::Model, Transferred, usize)> {
    check(from, into)?;
    let organized = events::by_organizer(tx, tenant, vec![from.id]).await?;
    let organized: BTreeSet<i64> = organized.into_iter().map(|event| event.id).collect();
    event::Entity::update_many()
        .col_expr(event::Column::UserId, Expr::value(into.id))
        .col_expr(event::Column::UpdatedAt, Expr::value(now))
        .filter(event::Column::TenantId.eq(tenant.id()))
        .filter(event::Column::UserId.eq(from.id))
        .exec(tx)
        .await?;

    let theirs = tenant.attendees().filter(attendee::Column::UserId.eq(from.id)).all(tx).await?;
    let answered: BTreeSet<i64> = theirs.iter().map(|row| row.event_id).collect();
    let pairs = answered.iter().map(|event| (*event, into.id)).collect();
    let own = rsvp::of(tx, tenant, pairs).await?;
    let own: BTreeMap<i64, attendee::Model> = own.into_iter().map(|row| (row.event_id, row)).collect();
    let age = |row: &attendee::Model| (row.updated_at, row.created_at);
    let older = |row: &attendee::Model| {
        let held = own.get(&row.event_id)?;
        Some(if age(row) > age(held) { held.id } else { row.id })
    };
    let superseded: Vec<i64> = theirs.iter().filter_map(older).collect();
    let transferred = Transferred {
        events: organized.len() as u64,
        answers: theirs.iter().filter(|row| !superseded.contains(&row.id)).count() as u64,
        superseded: superseded.len() as u64,
    };
    rsvp::delete(tx, superseded).await?;
    attendee::Entity::update_many()
        .col_expr(attendee::Column::UserId, Expr::value(into.id))
        .filter(attendee::Column::TenantId.eq(tenant.id()))
        .filter(attendee::Column::UserId.eq(from.id))
        .exec(tx)
        .await?;
    let recount: Vec<i64> = answered.iter().copied().collect();
    if !recount.is_empty() {
        rsvp::recount(tx, &recount).await?;
    }

    // Events and answers that were forgotten would forbid it: nothing goes with an account.
    user::Entity::delete_by_id(from.id).exec(tx).await?;
    let user = merged(from, into, now).update(tx).await?;
    let told = tell(tx, tenant, (&organized, &answered), now).await?;
    Ok((user, transferred, told))
}

fn check(from: &user::Model, into: &user::Model) -> Result<()> {
    let refused = |code, why| Err(Error::invalid("shadowAccountId", code, why));
    if from.did.is_some() && into.did.is_some() {
        return refused("BOTH_HAVE_DIDS", "two accounts with a DID each are two people");
    }
    if from.source_name.is_some() && into.source_name.is_some() {
        return refused("BOTH_ARE_SITES", "two accounts with a site each stay two, since their events come from two");
    }
    Ok(())
}

fn merged(from: &user::Model, into: &user::Model, now: DateTime<Utc>) -> user::ActiveModel {
    let mut row = user::ActiveModel {
        id: Set(into.id),
        did: Set(into.did.clone().or_else(|| from.did.clone())),
        display_name: Set(into.display_name.clone().or_else(|| from.display_name.clone())),
        preferences_bluesky: Set(into.preferences_bluesky.clone().or_else(|| from.preferences_bluesky.clone())),
        created_at: Set(std::cmp::min(into.created_at, from.created_at)),
        updated_at: Set(now),
        ..Default::default()
    };
    if from.source_name.is_some() {
        // A site is known by both.
        row.source_name = Set(from.source_name.clone());
        row.provider = Set(from.provider);
    }
    row
}

/// Each event once, with what has changed of it.
async fn tell(
    tx: &impl ConnectionTrait,
    tenant: Tenant,
    (organized, answered): (&BTreeSet<i64>, &BTreeSet<i64>),
    now: DateTime<Utc>,
) -> Result<usize> {
    let all: Vec<i64> = organized.union(answered).copied().collect();
    let rows = events::by_id(tx, tenant, all).await?;
    let mut told = 0;
    for fields in [&["organizer", "attendance"][..], &["organizer"], &["attendance"]] {
        let is_so = |event: &&event::Model| {
            organized.contains(&event.id) == fields.contains(&"organizer")
                && answered.contains(&event.id) == fields.contains(&"attendance")
        };
        let rows: Vec<event::Model> = rows.iter().filter(is_so).cloned().collect();
        told += told::updated(tx, &rows, fields, now).await?;
    }
    Ok(told)
}
