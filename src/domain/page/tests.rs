//! Pages of a real table against the sorted list itself.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{
    event,
    location::{Links, Locations},
    sets::{EventMode, EventStatus, EventVisibility, SourceType},
    user,
};
use proptest::prelude::*;
use sea_orm::{ActiveValue::NotSet, IntoActiveModel};

use super::*;
use crate::{
    domain::{
        event::{Filter, Sort, SortField, count, count_of_organizers, list, of_organizers, order},
        range::Range,
        tenant::Tenant,
    },
    infra::db::{Db, DbSettings},
};

const EVENTS: i64 = 3_000;
const USERS: i64 = 7;

struct World {
    db: Db,
    tenant: Tenant,
    /// Listed events only.
    events: Vec<event::Model>,
    users: Vec<i64>,
    _folder: tempfile::TempDir,
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn event(number: i64, tenant: Tenant, users: &[i64], random: &mut fastrand::Rng) -> event::Model {
    event::Model {
        id: 0,
        tenant_id: tenant.id(),
        user_id: users[random.usize(..users.len())],
        slug: format!("event-{number}"),
        name: format!("Event {number}"),
        description: None,
        // Few values for many rows: ties everywhere. Some have fractions of a second, which text must not missort.
        starts_at: (random.u8(..5) > 0)
            .then(|| instant(random.i64(0..40)) + chrono::TimeDelta::microseconds(random.i64(0..3))),
        ends_at: None,
        time_zone: None,
        status: if random.u8(..10) == 0 { EventStatus::Draft } else { EventStatus::Scheduled },
        mode: EventMode::InPerson,
        visibility: if random.u8(..10) == 0 { EventVisibility::Unlisted } else { EventVisibility::Public },
        locations: Locations::default(),
        links: Links::default(),
        latitude: None,
        longitude: None,
        sphere_x: None,
        sphere_y: None,
        sphere_z: None,
        search_text: String::new(),
        source_type: SourceType::Bluesky,
        source_id: None,
        source_url: None,
        record_uri: Some(format!("at://did:plc:a/community.lexicon.calendar.event/{number}")),
        record_cid: None,
        record_rev: None,
        is_hidden: random.u8(..10) == 0,
        confirmed_count: random.i32(0..20),
        maybe_count: 0,
        cancelled_count: 0,
        created_at: instant(random.i64(0..1000)),
        updated_at: instant(random.i64(0..50)),
        ingested_at: instant(0),
        last_synced_at: None,
    }
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("pages.sqlite").display());
    let db = Db::connect(&DbSettings { url, max_connections: 4 }).await.unwrap();
    db.migrate().await.unwrap();
    let tenant = Tenant::default(db.read()).await.unwrap();
    let (users, events) = db
        .transact(async |tx| {
            let mut random = fastrand::Rng::with_seed(7);
            let people = (0..USERS).map(|number| user::ActiveModel {
                id: NotSet,
                ..user::Model {
                    id: 0,
                    tenant_id: tenant.id(),
                    did: Some(format!("did:plc:{number}")),
                    is_shadow_account: true,
                    provider: SourceType::Bluesky,
                    source_name: None,
                    role: None,
                    display_name: None,
                    email: None,
                    preferences_bluesky: None,
                    created_at: instant(0),
                    updated_at: instant(0),
                }
                .into_active_model()
            });
            user::Entity::insert_many(people).exec(&*tx).await?;
            let users: Vec<i64> = user::Entity::find().all(&*tx).await?.into_iter().map(|user| user.id).collect();
            let mut numbers = 0..EVENTS;
            while !numbers.is_empty() {
                let rows = numbers.by_ref().take(500).map(|number| event::ActiveModel {
                    id: NotSet,
                    ..event(number, tenant, &users, &mut random).into_active_model()
                });
                event::Entity::insert_many(rows.collect::<Vec<_>>()).exec(&*tx).await?;
            }
            Ok((users, event::Entity::find().all(&*tx).await?))
        })
        .await
        .unwrap();
    let is_listed = |event: &event::Model| {
        !event.is_hidden && event.status != EventStatus::Draft && event.visibility == EventVisibility::Public
    };
    World { db, tenant, events: events.into_iter().filter(is_listed).collect(), users, _folder: folder }
}

/// The ids of rows in the order of the list, by sorting.
fn sorted<'a>(events: impl Iterator<Item = &'a event::Model>, sort: Sort) -> Vec<i64> {
    let order = order(sort);
    let mut positions: Vec<Position> = events.map(|event| (order.position)(event)).collect();
    positions.sort_by(|a, b| {
        let keys = match (a.key, b.key) {
            (Some(a), Some(b)) if sort.descending => b.cmp(&a),
            (Some(a), Some(b)) => a.cmp(&b),
            // Whatever has no key comes last, whichever way it goes.
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        keys.then(if sort.descending { b.id.cmp(&a.id) } else { a.id.cmp(&b.id) })
    });
    positions.into_iter().map(|position| position.id).collect()
}

fn sorts() -> impl Strategy<Value = Sort> {
    let fields = [SortField::StartsAt, SortField::CreatedAt, SortField::UpdatedAt, SortField::AttendeeCount];
    (prop::sample::select(fields.to_vec()), any::<bool>()).prop_map(|(field, descending)| Sort { field, descending })
}

fn ids(page: &Page<event::Model>) -> Vec<i64> {
    page.rows.iter().map(|row| row.id).collect()
}

#[test]
fn pages_are_the_sorted_list() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(world());
    let (db, tenant) = (world.db.read(), world.tenant);
    let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };

    // Walks from end to end through pages of changing sizes.
    proptest!(config.clone(), |(sort in sorts(), sizes in prop::collection::vec(1_i32..=400, 1..5), backward: bool)| {
        let order = order(sort);
        let expected = sorted(world.events.iter(), sort);
        runtime.block_on(async {
            let (mut seen, mut bound) = (Vec::new(), None);
            for size in sizes.iter().cycle() {
                let wanted = if backward {
                    Wanted { last: Some(*size), before: bound.clone(), ..Wanted::default() }
                } else {
                    Wanted { first: Some(*size), after: bound.clone(), ..Wanted::default() }
                };
                let slice = order.slice(&wanted, 400).unwrap();
                let page = list(db, tenant, &Filter::default(), sort, &slice).await.unwrap();
                assert!(page.rows.len() <= usize::try_from(*size).unwrap());
                assert_eq!(if backward { page.has_next } else { page.has_previous }, bound.is_some());
                let edge = if backward { page.rows.first() } else { page.rows.last() };
                bound = edge.map(|row| order.cursor(row));
                let more = if backward { page.has_previous } else { page.has_next };
                if backward { seen.splice(0..0, ids(&page)); } else { seen.extend(ids(&page)); }
                if !more { break; }
            }
            assert_eq!(seen, expected);
        });
    });

    // Any part between any two rows, from either end.
    proptest!(config.clone(), |(
        sort in sorts(), size in 1_u64..100, backward: bool,
        after: Option<prop::sample::Index>, before: Option<prop::sample::Index>,
    )| {
        let all = sorted(world.events.iter(), sort);
        let by_id: HashMap<i64, &event::Model> = world.events.iter().map(|event| (event.id, event)).collect();
        let order = order(sort);
        let after = after.map(|index| index.index(all.len()));
        let before = before.map(|index| index.index(all.len()));
        let position = |index: usize| (order.position)(by_id[&all[index]]);
        let slice = Slice { size, backward, after: after.map(position), before: before.map(position) };
        let (from, to) = (after.map_or(0, |index| index + 1), before.unwrap_or(all.len()));
        let between = if from < to { &all[from..to] } else { &[] };
        let wanted = usize::try_from(size).unwrap().min(between.len());
        let expected = if backward { &between[between.len() - wanted..] } else { &between[..wanted] };
        let page = runtime.block_on(list(db, tenant, &Filter::default(), sort, &slice)).unwrap();
        prop_assert_eq!(ids(&page), expected);
        let rest = between.len() > wanted;
        prop_assert_eq!(page.has_next, if backward { before.is_some() } else { rest || before.is_some() });
        prop_assert_eq!(page.has_previous, if backward { rest || after.is_some() } else { after.is_some() });
    });

    // The same page of several lists at once is each list's own page.
    proptest!(config, |(size in 1_u64..60, backward: bool, after: Option<prop::sample::Index>, before: Option<prop::sample::Index>)| {
        let order = order(Sort::default());
        let bound = |index: Option<prop::sample::Index>| index.map(|index| (order.position)(index.get(&world.events)));
        let slice = Slice { size, backward, after: bound(after), before: bound(before) };
        let pages = runtime.block_on(of_organizers(db, tenant, world.users.clone(), &slice)).unwrap();
        let rank = |position: Position| (position.key.is_none(), position.key, position.id);
        for user in &world.users {
            let own = world.events.iter().filter(|event| event.user_id == *user);
            let inside: Vec<&event::Model> = own
                .filter(|event| slice.after.is_none_or(|after| rank((order.position)(event)) > rank(after)))
                .filter(|event| slice.before.is_none_or(|before| rank((order.position)(event)) < rank(before)))
                .collect();
            let all = sorted(inside.into_iter(), Sort::default());
            let wanted = usize::try_from(size).unwrap().min(all.len());
            let expected = if backward { &all[all.len() - wanted..] } else { &all[..wanted] };
            let page = pages.get(user).cloned().unwrap_or_default();
            prop_assert_eq!(ids(&page), expected);
        }
    });

    runtime.block_on(async {
        let listed = u64::try_from(world.events.len()).unwrap();
        assert_eq!(count(db, tenant, &Filter::default()).await.unwrap(), listed);
        let each = count_of_organizers(db, tenant, world.users.clone()).await.unwrap();
        assert_eq!(each.values().sum::<u64>(), listed);
        // A page of the list is one statement as long as it is full, and never more than two.
        let slice = Slice { size: 50, backward: false, after: None, before: None };
        let before = world.db.statement_count();
        list(db, tenant, &Filter::default(), Sort::default(), &slice).await.unwrap();
        assert_eq!(world.db.statement_count() - before, 1);
        // A span of time leaves nobody out who starts within it, and nobody in who does not say.
        let range = Range { from: Some(instant(10)), to: Some(instant(20)) };
        let inside = |event: &&event::Model| event.starts_at.is_some_and(|at| instant(10) <= at && at < instant(20));
        let filter = Filter { starts_at: Some(range), ..Filter::default() };
        let expected = u64::try_from(world.events.iter().filter(inside).count()).unwrap();
        assert_eq!(count(db, tenant, &filter).await.unwrap(), expected);
    });
}
