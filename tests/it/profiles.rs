//! Profiles of the network: who sees what of whom, what it costs, and what happens while hosts are away.

mod away;
mod followed;
mod shared;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use async_graphql::{Request, Variables};
use chrono::TimeDelta;
use entities::{
    identity,
    sets::{AccountStatus, HandleStatus},
};
use gateway::{
    api::graphql::{RequestLoaders, Schema, schema},
    app::App,
    config,
    domain::{
        account::{SignedIn, sign_in},
        actor::Actor,
    },
    infra::clock::Clock,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};

use crate::support::{
    appview::AppView,
    database::{TestDb, sqlite},
    devnet::EVENT,
    records::{self, cid_of, commit, did, tid},
};

/// Far more than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_mins(1);

const ONE: &str = "query ($actor: ActorRef!) { blueskyProfile(actor: $actor) {
    __typename did handle displayName description avatarUrl bannerUrl followersCount followsCount postsCount
    pdsUrl isRestricted source freshness { isStale }
    ... on BlueskyEnhancedProfile { connected connectedAt user { did } }
    ... on BlueskyPublicProfile { shadowAccount { did } }
} }";

/// The program over a database, an AppView and a network.
struct World {
    app: App,
    schema: Schema,
    /// Seconds that its clock is ahead.
    ahead: Arc<AtomicI64>,
}

impl World {
    /// With these settings of the section `network`.
    async fn open(test: &TestDb, network: &str) -> Self {
        Self::open_with(test, network, "").await
    }

    /// With further sections, too.
    async fn open_with(test: &TestDb, network: &str, more: &str) -> Self {
        let settings = format!(
            "database = {{ url = {:?}, max_connections = 6 }}
            network = {{ allow_private = true, {network} }}
            streams = {{ endpoints = [] }}
            {more}",
            test.url
        );
        let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let seconds = Arc::clone(&ahead);
        let system = Clock::system();
        let clock = Clock::steered(move || system.now() + TimeDelta::seconds(seconds.load(Ordering::SeqCst)));
        let app = App::open(config, clock).await.unwrap();
        Self { schema: schema(&app), app, ahead }
    }

    /// Lets time go by.
    fn wait(&self, by: TimeDelta) {
        self.ahead.fetch_add(by.num_seconds(), Ordering::SeqCst);
    }

    /// An answer: the data, with the code of the only error beside it.
    async fn ask(&self, viewer: Actor, query: &str, variables: Value) -> (Value, Option<Value>) {
        let request = Request::new(query)
            .variables(Variables::from_json(variables))
            .data(RequestLoaders::new(&self.app))
            .data(viewer);
        let response = self.schema.execute(request).await;
        assert!(response.errors.len() <= 1, "{query}: {:?}", response.errors);
        let code = response.errors.first().map(|error| {
            let extensions = serde_json::to_value(&error.extensions).unwrap();
            extensions.get("reason").unwrap_or(&extensions["code"]).clone()
        });
        (response.data.into_json().unwrap(), code)
    }

    /// What anybody is shown of somebody.
    async fn profile(&self, actor: Value) -> Value {
        let (mut data, code) = self.ask(Actor::Anonymous, ONE, json!({ "actor": actor })).await;
        assert_eq!(code, None, "{actor}");
        data["blueskyProfile"].take()
    }

    /// Asks until there is an answer about somebody.
    async fn eventually_answers(&self, did: &str) {
        let began = Instant::now();
        while self.ask(Actor::Anonymous, ONE, json!({ "actor": { "did": did } })).await.1.is_some() {
            assert!(began.elapsed() < PATIENCE, "nobody answers for {did}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks until what is shown of somebody is as it should be.
    async fn eventually(&self, did: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let profile = self.profile(json!({ "did": did })).await;
            if is_so(&profile) {
                return profile;
            }
            assert!(began.elapsed() < PATIENCE, "{profile:#}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// Each of these people organises an event.
async fn organize(app: &App, people: std::ops::Range<usize>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let lines = people.map(|number| {
        let at = 1_900_000_000_000_000 + i64::try_from(number).unwrap();
        let record = records::event(&mut rng, number, at);
        let version = cid_of(&record.to_string());
        commit(&did(1, number), at, &tid(at, 7), EVENT, &tid(at, 7), Some((&version, &record)))
    });
    let lines: Vec<String> = lines.collect();
    gateway::domain::ingest::submit(app, &lines).await.unwrap();
}

#[tokio::test]
async fn organisers_of_fifty_events_cost_two_requests_cold_and_none_warm() {
    let test = sqlite().await;
    let appview = AppView::start().await;
    appview.knows_all();
    let world = World::open(&test, &format!("appview_url = {:?}", appview.url)).await;
    organize(&world.app, 0..50).await;
    let page = async || {
        let query = "{ events(first: 50) { nodes { organizer { did
            blueskyProfile { did displayName source followersCount freshness { isStale } } } } } }";
        let (data, code) = world.ask(Actor::Anonymous, query, json!({})).await;
        assert_eq!(code, None);
        let nodes = data["events"]["nodes"].as_array().unwrap().clone();
        assert_eq!(nodes.len(), 50);
        let mut stale = 0;
        for node in nodes {
            let (organizer, profile) = (&node["organizer"], &node["organizer"]["blueskyProfile"]);
            assert_eq!((&organizer["did"], &profile["source"]), (&profile["did"], &json!("APP_VIEW")));
            assert_eq!((&profile["followersCount"], profile["displayName"].is_string()), (&json!(12), true));
            stale += usize::from(profile["freshness"]["isStale"] == true);
        }
        stale
    };
    assert_eq!((page().await, appview.requests()), (0, 2));
    assert_eq!((page().await, appview.requests()), (0, 2));
    // What is too old is shown all the same, and fetched behind the reader's back.
    world.wait(TimeDelta::minutes(11));
    assert_eq!(page().await, 50);
    let began = Instant::now();
    while page().await > 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(appview.requests(), 4);
    test.discard().await;
}

#[tokio::test]
async fn everybody_is_shown_what_is_for_them() {
    let test = sqlite().await;
    let appview = AppView::start().await;
    let world = World::open(&test, &format!("appview_url = {:?}", appview.url)).await;
    let moderator = did(9, 9);
    let label = |source: &str, value: &str| json!([{ "src": source, "uri": "at://x", "val": value, "cts": "2031-01-01T00:00:00Z" }]);
    let [plain, shy, hidden, gone, member, shadow] = [0, 1, 2, 3, 4, 5].map(|number| did(1, number));
    appview.knows(&plain, "plain.example.com", &json!({ "avatar": "http://plain.example.com/a", "banner": null }));
    appview.knows(&shy, "shy.example.com", &json!({ "labels": label(&shy, "!no-unauthenticated") }));
    appview.knows(&hidden, "hidden.example.com", &json!({ "labels": label(&moderator, "!hide") }));
    for (did, handle) in [(&gone, "gone.example.com"), (&member, "old.example.com"), (&shadow, "handle.invalid")] {
        appview.knows(did, handle, &json!({}));
    }
    organize(&world.app, 3..6).await;
    let (one, two) = (&gone, &member);
    world
        .app
        .db
        .transact(|tx| async move {
            let gone = Expr::value(AccountStatus::Deactivated.as_str());
            let rows = identity::Entity::update_many().col_expr(identity::Column::AccountStatus, gone);
            rows.filter(identity::Column::Did.eq(one)).exec(&*tx).await?;
            let rows = identity::Entity::update_many()
                .col_expr(identity::Column::HandleStatus, Expr::value(HandleStatus::Verified.as_str()))
                .col_expr(identity::Column::Handle, Expr::value("member.example.com"));
            rows.filter(identity::Column::Did.eq(two)).exec(&*tx).await?;
            Ok(())
        })
        .await
        .unwrap();
    let pds = "https://pds.example.com".parse().unwrap();
    let signed_in = SignedIn { did: member.clone(), handle: None, pds, scopes: Vec::new() };
    sign_in(&world.app, &signed_in).await.unwrap();

    let profile = world.profile(json!({ "did": plain })).await;
    let expected = json!({
        "__typename": "BlueskyPublicProfile", "did": plain, "handle": "plain.example.com",
        "displayName": "Name of plain.example.com", "description": "Somebody.",
        // Only https.
        "avatarUrl": null, "bannerUrl": null, "followersCount": 12, "followsCount": 3, "postsCount": 456,
        "pdsUrl": null, "isRestricted": false, "source": "APP_VIEW", "freshness": { "isStale": false },
        "shadowAccount": null,
    });
    assert_eq!(profile, expected);
    let before = appview.requests();
    assert_eq!(world.profile(json!({ "handle": "plain.example.com" })).await, expected);
    assert_eq!(world.profile(json!({ "handle": "plain.example.com" })).await, expected);
    assert_eq!(appview.requests() - before, 1, "whom the handle names is kept too");

    let profile = world.profile(json!({ "did": shy })).await;
    assert_eq!((&profile["isRestricted"], &profile["handle"]), (&json!(true), &json!("shy.example.com")));
    for detail in
        ["displayName", "description", "avatarUrl", "bannerUrl", "followersCount", "followsCount", "postsCount"]
    {
        assert!(profile[detail].is_null(), "{detail}");
    }
    let (data, _) = world.ask(Actor::Operator, ONE, json!({ "actor": { "did": shy } })).await;
    let profile = &data["blueskyProfile"];
    assert_eq!((&profile["isRestricted"], &profile["displayName"]), (&json!(false), &json!("Name of shy.example.com")));

    // Hidden by moderators, not active, and nobody at all.
    for nobody in [&hidden, &gone] {
        assert!(world.profile(json!({ "did": nobody })).await.is_null(), "{nobody}");
    }
    let profile = world.profile(json!({ "did": member })).await;
    assert_eq!(profile["__typename"], "BlueskyEnhancedProfile");
    assert_eq!((&profile["connected"], &profile["user"]["did"]), (&json!(true), &json!(member)));
    // What we have verified ourselves is newer than what the AppView says.
    assert_eq!(profile["handle"], "member.example.com");
    assert_eq!(world.profile(json!({ "handle": "member.example.com" })).await["did"], json!(member));
    let profile = world.profile(json!({ "did": shadow })).await;
    assert_eq!((&profile["shadowAccount"]["did"], &profile["handle"]), (&json!(shadow), &Value::Null));

    let query = "query ($actors: [ActorRef!]!) { blueskyProfiles(actors: $actors) { did } }";
    let actors: Vec<Value> = [&member, &hidden, &plain, &member].map(|did| json!({ "did": did })).to_vec();
    let (data, code) = world.ask(Actor::Anonymous, query, json!({ "actors": actors })).await;
    assert_eq!(code, None);
    assert_eq!(data["blueskyProfiles"], json!([{ "did": member }, null, { "did": plain }, { "did": member }]));
    let many: Vec<Value> = (0..26).map(|number| json!({ "did": did(2, number) })).collect();
    let (data, code) = world.ask(Actor::Anonymous, query, json!({ "actors": many })).await;
    assert_eq!((&data["blueskyProfiles"], code), (&Value::Null, Some(json!("TOO_MANY_VALUES"))));
    test.discard().await;
}
