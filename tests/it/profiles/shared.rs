//! Profiles that several processes share over Redis, and what becomes of them while it is away.

use chrono::TimeDelta;
use gateway::domain::{actor::Actor, ingest};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{World, organize};
use crate::{
    kv::stores::{forget, redis_url},
    support::{
        appview::AppView,
        database::{TestDb, databases},
        proxy::Proxy,
        records::{BEGINNING, datetime, did},
    },
};

const PAGE: &str = "query ($actors: [ActorRef!]!) { blueskyProfiles(actors: $actors) {
    did displayName source freshness { isStale }
} }";

/// Where profiles are kept: beside the process, or on Redis by way of this URL.
fn kv(redis: Option<&str>) -> (String, String) {
    let namespace = format!("test-{}", Uuid::now_v7().simple());
    let url = redis.unwrap_or_default();
    (format!("kv = {{ url = {url:?}, namespace = {namespace:?} }}"), namespace)
}

async fn open(test: &TestDb, appview: &AppView, kv: &str) -> World {
    World::open_with(test, &format!("appview_url = {:?}", appview.url), kv).await
}

/// What a process shows of the first people.
async fn page(world: &World, people: usize) -> Vec<Value> {
    let actors: Vec<Value> = (0..people).map(|number| json!({ "did": did(1, number) })).collect();
    let (mut data, code) = world.ask(Actor::Anonymous, PAGE, json!({ "actors": actors })).await;
    assert_eq!(code, None);
    serde_json::from_value(data["blueskyProfiles"].take()).unwrap()
}

/// What hosts say of an account.
fn standing(did: &str, at: i64, is_active: bool) -> String {
    let mut account = json!({ "active": is_active, "did": did, "seq": at, "time": datetime(at) });
    if !is_active {
        account["status"] = json!("deactivated");
    }
    json!({ "did": did, "time_us": at, "kind": "account", "account": account }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_grow_old_and_go_with_their_accounts_on_every_store() {
    let redis = redis_url();
    for redis in [None, Some(redis.as_str())] {
        for test in databases().await {
            let (settings, namespace) = kv(redis);
            let appview = AppView::start().await;
            appview.knows_all();
            let world = open(&test, &appview, &settings).await;
            organize(&world.app, 0..25).await;
            let told = async |number: i64, is_active: bool| {
                let line = standing(&did(1, 0), BEGINNING + 1_000_000_000 + number, is_active);
                ingest::submit(&world.app, &[line]).await.unwrap();
            };
            assert!(page(&world, 25).await.iter().all(|profile| profile["source"] == "APP_VIEW"));
            assert_eq!(appview.requests(), 1);

            // Too old: shown all the same, and fetched behind the reader's back.
            appview.knows(&did(1, 3), "three.example.com", &json!({ "displayName": "Three" }));
            world.wait(TimeDelta::minutes(11));
            assert!(page(&world, 25).await.iter().all(|profile| profile["freshness"]["isStale"] == true));
            let three = world.eventually(&did(1, 3), |profile| profile["freshness"]["isStale"] == false).await;
            assert_eq!(three["displayName"], "Three");

            // The account is deactivated, and comes back with another name: that is not shown before it is known to be so.
            told(1, false).await;
            assert!(page(&world, 1).await[0].is_null());
            appview.knows(&did(1, 0), "nought.example.com", &json!({ "displayName": "Nought" }));
            world.wait(TimeDelta::seconds(2));
            told(2, true).await;
            let nought = world.eventually(&did(1, 0), |profile| profile["displayName"] == "Nought").await;
            assert_eq!(nought["source"], "APP_VIEW");
            if redis.is_some() {
                forget(&namespace).await;
            }
            test.discard().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_has_fetched_the_others_have() {
    let redis = redis_url();
    for test in databases().await {
        let (settings, namespace) = kv(Some(&redis));
        let appview = AppView::start().await;
        appview.knows_all();
        let worlds = [open(&test, &appview, &settings).await, open(&test, &appview, &settings).await];
        assert!(page(&worlds[0], 25).await.iter().all(|profile| profile["source"] == "APP_VIEW"));
        assert!(page(&worlds[1], 25).await.iter().all(|profile| profile["source"] == "APP_VIEW"));
        assert_eq!(appview.requests(), 1);
        for world in &worlds {
            world.wait(TimeDelta::minutes(11));
        }
        appview.knows(&did(1, 3), "three.example.com", &json!({ "displayName": "Three" }));
        // One fetches it anew; the other shows it without having asked anybody.
        let is_new = |profile: &Value| profile["displayName"] == "Three" && profile["freshness"]["isStale"] == false;
        worlds[0].eventually(&did(1, 3), is_new).await;
        let asked = appview.requests();
        worlds[1].eventually(&did(1, 3), is_new).await;
        assert_eq!(asked, 2, "one profile was asked for again");
        forget(&namespace).await;
        test.discard().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_profiles_are_fetched() {
    let redis = redis_url();
    for test in databases().await {
        let way = Proxy::before(&redis).await;
        let (settings, namespace) = kv(Some(&format!("redis://{}", way.address)));
        let appview = AppView::start().await;
        appview.knows_all();
        let world = open(&test, &appview, &settings).await;
        assert_eq!(page(&world, 25).await.len(), 25);
        drop(way);
        world.wait(TimeDelta::minutes(11));
        let profiles = page(&world, 25).await;
        assert!(profiles.iter().all(|profile| profile["source"] == "APP_VIEW"), "{profiles:?}");
        forget(&namespace).await;
        test.discard().await;
    }
}
