//! What the streams tell of profiles: that a known account describes itself anew, on the real PDSes of `tests/devnet`.

use std::time::{Duration, Instant};

use entities::identity;
use gateway::domain::account::{SignedIn, sign_in};
use sea_orm::EntityTrait;
use serde_json::json;

use super::PATIENCE;
use crate::support::{
    app::TestApp,
    appview::AppView,
    database::{TestDb, on_each_database},
    devnet::{Account, Devnet, EVENT},
    gateway::Launch,
    graphql::GraphQl,
};

const PROFILE: &str = "app.bsky.actor.profile";
const SHOWN: &str = "query ($did: Did!) { blueskyProfile(actor: { did: $did }) { displayName } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_is_shown_at_once_over_a_jetstream() {
    let devnet = Devnet::start().await;
    follow(&devnet, &devnet.network.jetstream()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_is_shown_at_once_over_a_firehose() {
    let devnet = Devnet::start().await;
    follow(&devnet, &devnet.network.relay()).await;
}

async fn follow(devnet: &Devnet, endpoint: &str) {
    on_each_database(async |test| {
        let appview = AppView::start().await;
        let mut settings = devnet.network.settings(endpoint);
        settings.retain(|(name, _)| !name.ends_with("APPVIEW_URL"));
        settings.push(("GATEWAY_NETWORK__APPVIEW_URL", appview.url.clone()));
        let gateway = Launch::new(&test.url, settings).start().await;
        let graphql = GraphQl::new(gateway.address);
        let member = devnet.account("member", "pds1").await;
        let author = devnet.account("author", "pds2").await;
        let stranger = devnet.account("stranger", "pds1").await;
        let people = [&member, &author, &stranger];
        let says = |account: &Account, text: &str| {
            let picture = format!("https://cdn.example.com/{text}");
            appview.knows(&account.did, &account.handle, &json!({ "displayName": text, "avatar": picture }));
        };
        for account in people {
            says(account, "one");
        }
        let app = TestApp::open(test).await.app;
        let pds = member.pds.parse().unwrap();
        let signed_in = SignedIn { did: member.did.clone(), handle: None, pds, scopes: Vec::new() };
        sign_in(&app, &signed_in).await.unwrap();
        author.create(&json!({ "$type": EVENT, "name": "Party", "createdAt": "2031-03-01T12:00:00.000Z" })).await;
        eventually(async || is_known(test, &author.did).await).await;
        for account in people {
            eventually(async || shown(&graphql, &account.did).await == "one").await;
        }

        for account in people {
            says(account, "two");
            account.put(&account.uri(PROFILE, "self"), &json!({ "$type": PROFILE, "displayName": "two" })).await;
        }
        eventually(async || picture(&app, &member.did).await.as_deref() == Some("https://cdn.example.com/two")).await;
        for account in [&member, &author] {
            eventually(async || shown(&graphql, &account.did).await == "two").await;
        }
        // The streams bring them in order: whoever is unknown would be known by now.
        assert!(!is_known(test, &stranger.did).await);
        assert_eq!(shown(&graphql, &stranger.did).await, "one", "nobody looks after strangers");
    })
    .await;
}

async fn shown(graphql: &GraphQl, did: &str) -> String {
    let data = graphql.query(SHOWN, &json!({ "did": did })).await;
    data["blueskyProfile"]["displayName"].as_str().unwrap_or_default().to_owned()
}

async fn is_known(test: &TestDb, did: &str) -> bool {
    identity::Entity::find_by_id(did).one(test.db.read()).await.unwrap().is_some()
}

/// The picture in the link of a member.
async fn picture(app: &gateway::app::App, did: &str) -> Option<String> {
    let known = gateway::domain::account::by_dids(app.db.read(), app.tenant, vec![did.to_owned()]).await.unwrap();
    known[did].account.as_ref().unwrap().user.preferences_bluesky.as_ref().unwrap().avatar.clone()
}

async fn eventually(is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "it never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
