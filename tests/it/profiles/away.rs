//! What is shown while hosts are away, on the real PDSes of `tests/devnet`.

use chrono::TimeDelta;
use gateway::domain::actor::Actor;
use serde_json::{Value, json};

use super::{ONE, World};
use crate::support::{appview::AppView, database::sqlite, devnet::Devnet};

const PROFILE: &str = "app.bsky.actor.profile";

#[tokio::test(flavor = "multi_thread")]
async fn without_an_appview_profiles_come_from_the_pds_and_without_both_they_fail() {
    let (test, devnet, appview) = (sqlite().await, Devnet::start().await, AppView::start().await);
    let network: Vec<_> =
        devnet.network.settings("").into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let setting = |wanted: &str| &network.iter().find(|(name, _)| name.ends_with(wanted)).unwrap().1;
    let settings = format!(
        "appview_url = {:?}, plc_url = {:?}, dns_server = {:?}",
        appview.url,
        setting("PLC_URL"),
        setting("DNS_SERVER")
    );
    let world = World::open(&test, &settings).await;
    let alice = devnet.account("alice", "pds1").await;
    let blank = devnet.account("blank", "pds1").await;
    let shy = devnet.account("shy", "pds1").await;
    let bad = devnet.account("bad", "pds1").await;
    let late = devnet.account("late", "pds1").await;
    let record = |name: &str, labels: Value| json!({ "$type": PROFILE, "displayName": name, "description": "Hm.", "labels": labels });
    let label = json!({ "$type": "com.atproto.label.defs#selfLabels", "values": [{ "val": "!no-unauthenticated" }] });
    let none = json!({ "$type": "com.atproto.label.defs#selfLabels", "values": [] });
    for (account, name, labels) in
        [(&alice, "Alice", &none), (&shy, "Shy", &label), (&bad, "Bad", &none), (&late, "Late", &none)]
    {
        account.put(&account.uri(PROFILE, "self"), &record(name, labels.clone())).await;
    }
    appview.takes_down(&bad.did);
    let code = async |did: &str| world.ask(Actor::Anonymous, ONE, json!({ "actor": { "did": did } })).await.1;

    // The AppView knows none of them, and has taken one down.
    let profile = world.profile(json!({ "did": alice.did })).await;
    for (field, value) in [
        ("handle", json!(alice.handle)),
        ("displayName", json!("Alice")),
        ("description", json!("Hm.")),
        ("followersCount", json!(null)),
        ("source", json!("PDS")),
        ("isRestricted", json!(false)),
    ] {
        assert_eq!(profile[field], value, "{field}");
    }
    assert!(profile["pdsUrl"].is_string());
    let profile = world.profile(json!({ "did": blank.did })).await;
    assert_eq!((&profile["source"], &profile["handle"]), (&json!("IDENTITY"), &json!(blank.handle)));
    let profile = world.profile(json!({ "did": shy.did })).await;
    assert_eq!((&profile["isRestricted"], &profile["displayName"]), (&json!(true), &Value::Null));
    assert!(world.profile(json!({ "did": bad.did })).await.is_null());
    for nobody in [json!({ "did": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), json!({ "handle": "nobody.test" })] {
        assert!(world.profile(nobody.clone()).await.is_null(), "{nobody}");
    }
    assert_eq!(world.profile(json!({ "handle": alice.handle })).await["did"], json!(alice.did));

    // It is away: whoever is asked for now comes from the PDS, until it is back.
    appview.is_away(true);
    assert_eq!(world.profile(json!({ "did": late.did })).await["source"], "PDS");
    appview.is_away(false);
    appview.knows(&late.did, &late.handle, &json!({ "displayName": "Late at last" }));
    world.wait(TimeDelta::seconds(61));
    let profile = world.eventually(&late.did, |profile| profile["source"] == "APP_VIEW").await;
    assert_eq!((&profile["displayName"], &profile["followersCount"]), (&json!("Late at last"), &json!(12)));

    // What it has said is better than what the PDS says, however old.
    appview.is_away(true);
    world.wait(TimeDelta::minutes(11));
    for _ in 0..2 {
        let profile = world.profile(json!({ "did": late.did })).await;
        assert_eq!((&profile["source"], &profile["displayName"]), (&json!("APP_VIEW"), &json!("Late at last")));
    }

    // An account that is not active has no profile, whoever says so.
    let gone = devnet.account("gone", "pds1").await;
    gone.put(&gone.uri(PROFILE, "self"), &record("Gone", none.clone())).await;
    gone.deactivate().await;
    assert!(world.profile(json!({ "did": gone.did })).await.is_null());

    // Nobody is left who could tell; what is kept is shown.
    let lost = devnet.account("lost", "pds1").await;
    devnet.stop_pds("pds1").await;
    assert_eq!(code(&lost.did).await, Some(json!("UPSTREAM_UNAVAILABLE")));
    assert_eq!(world.profile(json!({ "did": alice.did })).await["displayName"], "Alice");
    devnet.start_pds("pds1").await;
    world.eventually_answers(&lost.did).await;
    test.discard().await;
}
