//! Events of every visibility, and everybody who may ask for them.

use async_graphql::Request;
use chrono::{DateTime, Utc};
use entities::{
    event, identity,
    location::{Link, Links, Location, Locations},
    sets::{EventStatus, EventVisibility, HandleStatus, UserRole},
};
use futures_util::StreamExt;
use gateway::{
    api::graphql::{RequestLoaders, schema},
    app::App,
    domain::{
        account::{self, SignedIn, care},
        actor::{self, Actor, Shown},
        change::{Cursor, head},
        key::SOURCES,
        session::{self, Kind},
    },
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel, QueryOrder};
use serde_json::{Value, json};
use tokio::time::{Duration, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{
    app::TestApp,
    database::TestDb,
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, datetime, did, tid, uri},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Their numbers as people.
pub(super) const ORGANIZER: usize = 1;
const GUEST: usize = 2;
const ADMIN: usize = 3;
const OPERATOR: usize = 4;
const STRANGER: usize = 5;
/// They have never signed in.
pub(super) const AUTHOR: usize = 6;

pub(super) fn did_of(person: usize) -> String {
    did(3, person)
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_900_000_000 + seconds, 0).unwrap()
}

/// A record of a person.
fn record(person: usize, number: i64, collection: &str, mut record: Value) -> String {
    let at = BEGINNING + number;
    record["$type"] = json!(collection);
    record["createdAt"] = json!(datetime(at));
    let cid = cid_of(&record.to_string());
    commit(&did_of(person), at, &tid(at, 1), collection, &number.to_string(), Some((&cid, &record)))
}

async fn token(app: &App, person: usize) -> (i64, String) {
    let signed_in = SignedIn {
        did: did_of(person),
        handle: None,
        pds: "https://pds.example.com".parse().unwrap(),
        scopes: Vec::new(),
    };
    let user = account::sign_in(app, &signed_in).await.unwrap();
    (user.id, session::open(app, user.id, Kind::Bearer, None).await.unwrap().token)
}

/// Events of an organiser who can sign in, of every visibility, and one of an author who never did; with answers of both kinds of
/// people. Nothing that can be known of them is missing.
async fn fill(test: &TestApp) {
    let event = |name: &str| {
        let place = json!({ "$type": "community.lexicon.location.geo", "latitude": "52.52", "longitude": "13.4" });
        json!({ "name": name, "startsAt": "2030-03-01T18:00:00Z", "locations": [place] })
    };
    let answer = |of: usize, number: i64| {
        let subject = uri(&did_of(of), EVENT, &number.to_string());
        json!({ "status": format!("{RSVP}#going"), "subject": { "uri": subject, "cid": cid_of("any") } })
    };
    let batch = [
        record(ORGANIZER, 1, EVENT, event("public")),
        record(ORGANIZER, 2, EVENT, event("draft")),
        record(ORGANIZER, 3, EVENT, event("unlisted")),
        record(ORGANIZER, 4, EVENT, event("private")),
        record(AUTHOR, 5, EVENT, event("theirs")),
        record(GUEST, 6, RSVP, answer(ORGANIZER, 1)),
        record(AUTHOR, 7, RSVP, answer(ORGANIZER, 1)),
        record(ORGANIZER, 8, RSVP, answer(AUTHOR, 5)),
        record(AUTHOR, 9, RSVP, answer(AUTHOR, 5)),
    ];
    test.submit(&batch).await;
    // It changes, so that there are fields that did.
    let mut changed = event("public, and better");
    changed["mode"] = json!(format!("{EVENT}#virtual"));
    let at = BEGINNING + 10;
    changed["$type"] = json!(EVENT);
    let cid = cid_of(&changed.to_string());
    test.submit(&[commit(&did_of(ORGANIZER), at, &tid(at, 1), EVENT, "1", Some((&cid, &changed)))]).await;
    let some = |said: &str| Some(said.to_owned());
    let locations = Locations(vec![
        Location::Address {
            name: some("Hall"),
            street: some("Way 1"),
            locality: some("Berlin"),
            region: some("Berlin"),
            postal_code: some("10115"),
            country: some("DE"),
        },
        Location::Point { name: some("Here"), latitude: 52.52, longitude: 13.4 },
        Location::Online { name: some("Call"), url: "https://example.com/call".into() },
        Location::Named { name: some("Somewhere"), lexicon: some("community.lexicon.location.fsq") },
    ]);
    let links = Links(vec![Link { name: some("Page"), url: "https://example.com/".into() }]);
    test.app
        .db
        .transact(async |tx| {
            for row in event::Entity::find().order_by_asc(event::Column::Id).all(&*tx).await? {
                let (status, visibility) = match row.name.as_str() {
                    "draft" => (EventStatus::Draft, EventVisibility::Public),
                    "unlisted" => (EventStatus::Scheduled, EventVisibility::Unlisted),
                    "private" => (EventStatus::Scheduled, EventVisibility::Private),
                    _ => (EventStatus::Scheduled, EventVisibility::Public),
                };
                let mut row = row.into_active_model();
                (row.status, row.visibility) = (Set(status), Set(visibility));
                (row.description, row.time_zone) = (Set(Some("talks".into())), Set(Some("Europe/Berlin".into())));
                (row.locations, row.links) = (Set(locations.clone()), Set(links.clone()));
                (row.ends_at, row.source_url) = (Set(Some(instant(0))), Set(Some("https://example.com/".into())));
                row.update(&*tx).await?;
            }
            for row in identity::Entity::find().all(&*tx).await? {
                let handle = format!("{}.example.com", row.did.trim_start_matches("did:plc:"));
                let mut row = row.into_active_model();
                (row.handle, row.handle_status) = (Set(Some(handle)), Set(HandleStatus::Verified));
                row.update(&*tx).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
}

/// A database of this, the program over it, and everybody who asks.
pub(super) struct World {
    app: App,
    /// Where the change log stood before there were events.
    pub(super) start: Cursor,
    pub(super) callers: Vec<(&'static str, Actor)>,
    _running: DropGuard,
}

impl World {
    pub(super) async fn open(database: &TestDb) -> Self {
        let mut test = TestApp::open(database).await;
        let mut config = (*test.app.config).clone();
        config.access.operators = vec![did_of(OPERATOR)];
        test.app.config = config.into();
        let (_, organizer) = token(&test.app, ORGANIZER).await;
        let (_, guest) = token(&test.app, GUEST).await;
        let (admin, administrator) = token(&test.app, ADMIN).await;
        care::set_role(&test.app, &Actor::Operator, admin, UserRole::Admin).await.unwrap();
        let (_, operator) = token(&test.app, OPERATOR).await;
        let (_, stranger) = token(&test.app, STRANGER).await;
        let start = head(test.app.db.read()).await.unwrap();
        fill(&test).await;
        let shown = [
            ("organiser", organizer),
            ("guest", guest),
            ("administrator", administrator),
            ("operator", operator),
            ("stranger", stranger),
            ("key", test.key(&SOURCES, false).await),
            ("key of an administrator", test.key(&SOURCES, true).await),
        ];
        let app = test.app;
        let mut callers = vec![("anonymous", Actor::Anonymous), ("operator of the machine", Actor::Operator)];
        for (name, shown) in shown {
            let shown = format!("Bearer {shown}");
            let shown = Shown { authorization: Some(&shown), cookie: None };
            callers.push((name, actor::identify(&app, shown, None).await.unwrap()));
        }
        let shutdown = CancellationToken::new();
        tokio::spawn(app.changes.clone().run(shutdown.clone()));
        Self { app, start, callers, _running: shutdown.drop_guard() }
    }

    fn request(&self, actor: &Actor, document: &str) -> Request {
        let app = self.app.of(self.app.tenant);
        Request::new(document).data(RequestLoaders::new(&app)).data(app).data(actor.clone())
    }

    pub(super) async fn ask(&self, document: &str) -> Value {
        let answer = schema(&self.app).execute(self.request(&Actor::Anonymous, document)).await;
        assert!(answer.errors.is_empty(), "{:?} to {document}", answer.errors);
        answer.data.into_json().unwrap()
    }

    /// The first events of a subscription, on an execution of the caller's own.
    pub(super) async fn follow(&self, actor: &Actor, document: &str, count: usize) -> Vec<Value> {
        let answers = schema(&self.app).execute_stream(self.request(actor, document)).take(count);
        let answers: Vec<_> = timeout(PATIENCE, answers.collect()).await.expect("something is missing");
        let data = answers.into_iter().map(|answer| {
            assert!(answer.errors.is_empty(), "{:?} to {document}", answer.errors);
            answer.data.into_json().unwrap()
        });
        data.collect()
    }
}
