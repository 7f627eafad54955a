//! A database with events, answers and accounts of every visibility, and the schema over it.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use async_graphql::{Request, Variables};
use chrono::{DateTime, Utc};
use entities::{
    event, event_attendee, identity,
    location::{Link, Links, Location, Locations, Texts},
    sets::{AccountStatus, EventMode, EventStatus, EventVisibility, HandleStatus, RsvpStatus, SourceType, Verdict},
    source_record, user,
};
use gateway::{
    api::graphql::{RequestLoaders, Schema, schema},
    app::App,
    config,
    domain::event::{search_text, sphere},
    infra::{clock::Clock, db::Db},
};
use sea_orm::{ActiveModelTrait, ActiveValue::NotSet, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::support::database::{TestDb, on_each_database};

/// Events; each has four visible answers and a hidden one.
pub(super) const EVENTS: i64 = 60;
/// Accounts, each of which organises some of the events.
pub(super) const PEOPLE: i64 = 9;
/// Not active on the network, and so nowhere to be seen.
pub(super) const GONE: i64 = 8;
/// Their handle is not verified.
const UNVERIFIED: i64 = 1;

pub(super) const BERLIN: (f64, f64) = (52.52, 13.405);

pub(super) fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(super) fn did(person: i64) -> String {
    format!("did:plc:{}", "abcdefghi".chars().nth(usize::try_from(person).unwrap()).unwrap().to_string().repeat(24))
}

pub(super) fn event_uri(number: i64) -> String {
    format!("at://{}/community.lexicon.calendar.event/{number}", did(organizer(number)))
}

pub(super) fn organizer(number: i64) -> i64 {
    number % PEOPLE
}

fn person(tenant: i64, number: i64) -> (user::Model, identity::Model) {
    let user = user::Model {
        id: 0,
        tenant_id: tenant,
        did: Some(did(number)),
        is_shadow_account: true,
        provider: SourceType::Bluesky,
        source_name: None,
        role: None,
        display_name: None,
        email: None,
        preferences_bluesky: None,
        created_at: instant(number),
        updated_at: instant(number),
    };
    let identity = identity::Model {
        did: did(number),
        handle: Some(format!("person{number}.example.com")),
        handle_status: if number == UNVERIFIED { HandleStatus::Invalid } else { HandleStatus::Verified },
        pds: None,
        account_status: if number == GONE { AccountStatus::Deactivated } else { AccountStatus::Active },
        status_at: None,
        purged_rev: None,
        checked_at: None,
        next_check_at: instant(0),
        check_attempts: 0,
        created_at: instant(0),
        updated_at: instant(0),
    };
    (user, identity)
}

/// Event 0 is a draft, 1 unlisted, 2 private, 3 has no start; those of a person who is gone are hidden.
fn event(tenant: i64, users: &[i64], number: i64) -> event::Model {
    let name = format!("Rust 100% meetup № {number}");
    // Each one about 11 km further north.
    let (latitude, longitude) = (BERLIN.0 + 0.1 * f64::from(i32::try_from(number).unwrap()), BERLIN.1);
    let [x, y, z] = sphere(latitude, longitude);
    event::Model {
        id: 0,
        tenant_id: tenant,
        user_id: users[usize::try_from(organizer(number)).unwrap()],
        slug: format!("event-{number}"),
        search_text: search_text(&name),
        name,
        description: None,
        starts_at: (number != 3).then(|| instant(number)),
        ends_at: None,
        time_zone: Some("Europe/Berlin".into()),
        status: if number == 0 { EventStatus::Draft } else { EventStatus::Scheduled },
        mode: if number % 2 == 0 { EventMode::InPerson } else { EventMode::Virtual },
        visibility: match number {
            1 => EventVisibility::Unlisted,
            2 => EventVisibility::Private,
            _ => EventVisibility::Public,
        },
        locations: Locations(vec![
            Location::Point { name: None, latitude, longitude },
            Location::Online { name: Some("Call".into()), url: "https://example.com/call".into() },
        ]),
        links: Links(vec![Link { name: None, url: "https://example.com/".into() }]),
        latitude: Some(latitude),
        longitude: Some(longitude),
        sphere_x: Some(x),
        sphere_y: Some(y),
        sphere_z: Some(z),
        source_type: SourceType::Bluesky,
        source_id: Some(did(organizer(number))),
        source_url: None,
        record_uri: Some(event_uri(number)),
        record_cid: Some("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454".into()),
        record_rev: Some("3l3qo2vutsw2b".into()),
        is_hidden: organizer(number) == GONE,
        confirmed_count: 2,
        maybe_count: 1,
        cancelled_count: 1,
        created_at: instant(-number),
        updated_at: instant(number),
        ingested_at: instant(0),
        last_synced_at: None,
    }
}

fn answer(tenant: i64, event: i64, user: i64, place: i64) -> event_attendee::Model {
    event_attendee::Model {
        id: 0,
        tenant_id: tenant,
        event_id: event,
        user_id: user,
        status: [RsvpStatus::Confirmed, RsvpStatus::Confirmed, RsvpStatus::Maybe, RsvpStatus::Cancelled]
            [usize::try_from(place % 4).unwrap()],
        source_type: SourceType::Bluesky,
        record_uri: Some(format!("at://did:plc:x/community.lexicon.calendar.rsvp/{event}-{place}")),
        record_cid: None,
        record_rev: None,
        event_cid: None,
        is_hidden: place == 4,
        created_at: instant(0),
        updated_at: instant(place),
    }
}

pub(super) struct World {
    pub(super) db: Db,
    app: App,
    schema: Schema,
}

impl World {
    async fn new(test: &TestDb) -> Self {
        let variables = [("DATABASE_URL".to_owned(), test.url.clone())];
        let config = config::load(None, variables, toml::Table::new()).unwrap();
        let app = App::open(config, Clock::system()).await.unwrap();
        fill(&app).await;
        Self { db: app.db.clone(), schema: schema(&app), app }
    }

    pub(super) async fn ask(&self, query: &str, variables: Value) -> async_graphql::Response {
        let request =
            Request::new(query).variables(Variables::from_json(variables)).data(RequestLoaders::new(&self.app));
        self.schema.execute(request).await
    }

    /// The data of an answer without errors.
    pub(super) async fn data(&self, query: &str, variables: Value) -> Value {
        let response = self.ask(query, variables).await;
        assert!(response.errors.is_empty(), "{query}: {:?}", response.errors);
        response.data.into_json().unwrap()
    }

    /// Code, reason and field of the only error, and the data beside it.
    pub(super) async fn refusal(&self, query: &str, variables: Value) -> (Value, Value) {
        let response = self.ask(query, variables).await;
        assert_eq!(response.errors.len(), 1, "{query}: {:?}", response.errors);
        let extensions = serde_json::to_value(&response.errors[0].extensions).unwrap();
        (extensions, response.data.into_json().unwrap())
    }

    /// Numbers of the listed events, in the order of the list.
    pub(super) async fn listed(&self, filter: Value) -> Vec<i64> {
        let query = "query($f: EventFilter) { events(first: 100, filter: $f) { nodes { slug } totalCount } }";
        let data = self.data(query, json!({ "f": filter })).await;
        let numbers: Vec<i64> = data["events"]["nodes"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(data["events"]["totalCount"], numbers.len(), "{filter}");
        numbers
    }
}

pub(super) fn number(node: &Value) -> i64 {
    node["slug"].as_str().unwrap().trim_start_matches("event-").parse().unwrap()
}

async fn fill(app: &App) {
    let tenant = app.tenant.id();
    app.db
        .transact(async |tx| {
            let people: Vec<_> = (0..PEOPLE).map(|number| person(tenant, number)).collect();
            let users =
                people.iter().map(|(user, _)| user::ActiveModel { id: NotSet, ..user.clone().into_active_model() });
            user::Entity::insert_many(users).exec(&*tx).await?;
            let identities = people.iter().map(|(_, identity)| identity.clone().into_active_model().reset_all());
            identity::Entity::insert_many(identities).exec(&*tx).await?;
            let mut users: Vec<i64> = user::Entity::find().all(&*tx).await?.into_iter().map(|user| user.id).collect();
            users.sort_unstable();
            let events = (0..EVENTS)
                .map(|number| event::ActiveModel { id: NotSet, ..event(tenant, &users, number).into_active_model() });
            event::Entity::insert_many(events).exec(&*tx).await?;
            let events = event::Entity::find().all(&*tx).await?;
            let answers = events.iter().flat_map(|event| (0..5).map(move |place| (event.id, place)));
            let answers = answers.map(|(event, place)| event_attendee::ActiveModel {
                id: NotSet,
                ..answer(tenant, event, users[usize::try_from(place).unwrap()], place).into_active_model()
            });
            event_attendee::Entity::insert_many(answers).exec(&*tx).await?;
            let record = source_record::Model {
                uri: event_uri(10),
                did: did(organizer(10)),
                collection: "community.lexicon.calendar.event".into(),
                rkey: "10".into(),
                rev: "3l3qo2vutsw2b".into(),
                cid: Some("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454".into()),
                record: Some(r#"{"name":"as it came","odd":[1,{"a":null}]}"#.into()),
                subject_uri: None,
                verdict: Verdict::Valid,
                issues: Texts::default(),
                deleted_at: None,
                occurred_at: instant(0),
                ingested_at: instant(77),
            };
            source_record::Entity::insert(record.into_active_model().reset_all()).exec(&*tx).await?;
            Ok(())
        })
        .await
        .unwrap();
}

/// What a list shows, by rule.
pub(super) fn visible(number: i64) -> bool {
    number > 2 && organizer(number) != GONE
}

pub(super) async fn on_each_world(test: impl AsyncFn(&World)) {
    on_each_database(async |database| test(&World::new(database).await).await).await;
}
