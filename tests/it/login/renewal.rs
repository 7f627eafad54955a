//! Sessions that are renewed: by one of all who wait, kept or known not to be, and over when they are over.

use std::time::Duration;

use futures_util::future::join_all;
use gateway::{
    app::App,
    error::Error,
    infra::{
        atproto::{
            oauth::Call,
            syntax::{Did, Nsid},
        },
        kv::{Key, Kind},
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    hostile::sign_in,
    liar::{Liar, Plc, new_did},
    stand::{Stand, open, settings},
};
use crate::{
    kv::stores::{forget, redis_url},
    support::{
        database::{TestDb, postgres, sqlite},
        devnet::Devnet,
        proxy::Proxy,
    },
};

const CALLERS: usize = 25;
/// Long enough for all callers to come while a token is handed out.
const SLOW: u64 = 700;
/// So that a token counts as about to expire as soon as it is handed out.
const SHORT: i64 = 30;

fn ask() -> Call {
    Call::query(Nsid::parse("org.example.ask").unwrap(), Vec::new())
}

/// The settings of every process, on one store.
fn shared(test: &TestDb, plc: &Plc, redis: Option<&str>) -> Vec<(String, String)> {
    let key = gateway::infra::seal::Seal::generate().unwrap();
    let namespace = format!("test-{}", Uuid::now_v7().simple());
    settings(
        None,
        test,
        &[
            ("GATEWAY_NETWORK__PLC_URL", &plc.url),
            ("GATEWAY_SECRETS__KEYS", &key),
            ("GATEWAY_KV__NAMESPACE", &namespace),
            ("REDIS_URL", redis.unwrap_or_default()),
        ],
    )
}

fn did(liar: &Liar) -> Did {
    Did::parse(&liar.did).unwrap()
}

fn renewals(liar: &Liar) -> usize {
    liar.asked("/token").iter().filter(|form| form["grant_type"] == "refresh_token").count()
}

/// The token that a request is made with.
async fn token(app: &App, did: &Did) -> String {
    let answer = app.oauth.call(did, &ask()).await.unwrap();
    let shown: Value = serde_json::from_slice(&answer.body).unwrap();
    shown["shown"].as_str().unwrap().to_owned()
}

/// Signs in with a token that has to be renewed before it is used, and is then handed out slowly.
async fn stale(app: &App, liar: &Liar) {
    liar.hands_out(SHORT, 0);
    sign_in(app, liar, &liar.did).await.unwrap();
    liar.hands_out(600, SLOW);
}

pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let come = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), come).await.expect("it happens");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_in_two_processes_one_renews_and_none_loses_the_session() {
    let redis = redis_url();
    let plc = Plc::start().await;
    let mut cases = vec![(sqlite().await, None), (sqlite().await, Some(redis.as_str()))];
    cases.extend(postgres().await.map(|test| (test, None)));
    for (test, redis) in cases {
        let settings = shared(&test, &plc, redis);
        let (one, other) = (open(&settings).await, open(&settings).await);
        let liar = Liar::start(&plc).await;
        let did = did(&liar);
        for round in 1..=3 {
            stale(&one, &liar).await;
            let before = renewals(&liar);
            let callers = (0..CALLERS).flat_map(|_| [&one, &other]).map(|app| token(app, &did));
            let tokens = join_all(callers).await;
            assert_eq!(tokens.len(), 2 * CALLERS);
            assert!(tokens.iter().all(|token| *token == tokens[0]), "all have the one new token");
            assert_eq!(renewals(&liar), before + 1, "round {round}, on redis: {}", redis.is_some());
        }
        if redis.is_some() {
            forget(&one.config.kv.namespace).await;
        }
        drop((one, other));
        test.discard().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_sees_no_token_twice() {
    let devnet = Devnet::start().await;
    let test = sqlite().await;
    let settings = settings(Some(&devnet), &test, &[]);
    let stand = Stand::public(&settings).await;
    let other = open(&settings).await;
    let account = devnet.account("ann", "pds2").await;
    let mut browser = stand.browser();
    let page = browser.begin(&stand.origin, &account.handle, "").await;
    let back = browser.approve(page.location(), &account, None).await;
    assert_eq!(browser.open(&back).await.status, 200);
    let did = Did::parse(&account.did).unwrap();
    let who = Call::query(Nsid::parse("com.atproto.server.getSession").unwrap(), Vec::new());
    for _ in 0..3 {
        let all = (0..CALLERS).flat_map(|_| [&stand.app, &other]).map(|app| app.oauth.refresh(&did));
        join_all(all).await.into_iter().for_each(|renewed| renewed.unwrap());
        for app in [&stand.app, &other] {
            assert_eq!(app.oauth.call(&did, &who).await.unwrap().status, 200);
        }
    }

    // The server goes away: the session waits for it.
    devnet.stop_pds("pds2").await;
    for app in [&stand.app, &other] {
        let error = app.oauth.refresh(&did).await.unwrap_err();
        assert!(matches!(error, Error::Upstream { .. }), "{}", error.chain());
        assert!(app.oauth.scopes(&did).await.unwrap().is_some());
    }
    devnet.start_pds("pds2").await;
    until(async || other.oauth.refresh(&did).await.is_ok()).await;
    assert_eq!(stand.app.oauth.call(&did, &who).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_it_is_renewed_loses_nothing() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&shared(&test, &plc, None)).await;
    let liar = Liar::start(&plc).await;
    let did = did(&liar);
    stale(&app, &liar).await;
    let before = renewals(&liar);
    let caller = tokio::spawn({
        let (app, did) = (app.clone(), did.clone());
        async move { app.oauth.call(&did, &ask()).await }
    });
    until(async || renewals(&liar) > before).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(app.oauth.call(&did, &ask()).await.unwrap().status, 200);
    assert_eq!(renewals(&liar), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_take_is_told_and_kept_later() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let redis = redis_url();
    let way = Proxy::before(&redis).await;
    let address = way.address;
    let mut settings = shared(&test, &plc, Some(&format!("redis://{address}")));
    let app = open(&settings).await;
    // Another process, which reaches the store by a way of its own.
    settings.retain(|(name, _)| name != "REDIS_URL");
    settings.push(("REDIS_URL".to_owned(), redis.clone()));
    let other = open(&settings).await;
    let liar = Liar::start(&plc).await;
    let did = did(&liar);
    until(async || app.kv.ping().await.is_ok()).await;
    stale(&app, &liar).await;
    let before = renewals(&liar);
    let caller = tokio::spawn({
        let (app, did) = (app.clone(), did.clone());
        async move { app.oauth.call(&did, &ask()).await }
    });
    until(async || renewals(&liar) > before).await;
    drop(way);
    let error = caller.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{}", error.chain());
    assert!(other.oauth.scopes(&did).await.unwrap().is_some(), "the older one is still known");

    let _way = Proxy::at(address, &redis).await;
    until(async || app.kv.ping().await.is_ok()).await;
    let kept = token(&app, &did).await;
    assert_eq!(token(&other, &did).await, kept);
    assert_eq!(renewals(&liar), before + 1, "nobody had to renew it again");
    forget(&app.config.kv.namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_token_was_lost_ends_once_and_cleanly() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let settings = shared(&test, &plc, None);
    let (app, other) = (open(&settings).await, open(&settings).await);
    let liar = Liar::start(&plc).await;
    let did = did(&liar);
    stale(&app, &liar).await;
    // A process has died with the tokens that came after: the server has handed them out and sees the old one again.
    liar.loses_track();
    let call = ask();
    let all = (0..10).flat_map(|_| [&app, &other]).map(|app| app.oauth.call(&did, &call));
    for answer in join_all(all).await {
        assert_eq!(answer.unwrap_err().reason(), "SIGN_IN_AGAIN");
    }
    assert_eq!(other.oauth.scopes(&did).await.unwrap(), None);
    liar.hands_out(600, 0);
    sign_in(&other, &liar, &liar.did).await.unwrap();
    assert_eq!(app.oauth.call(&did, &ask()).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_disconnects_while_it_is_renewed_stays_disconnected() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let settings = shared(&test, &plc, None);
    let (app, other) = (open(&settings).await, open(&settings).await);
    let liar = Liar::start(&plc).await;
    let did = did(&liar);
    stale(&app, &liar).await;
    let before = renewals(&liar);
    let caller = tokio::spawn({
        let (app, did) = (app.clone(), did.clone());
        async move { app.oauth.call(&did, &ask()).await }
    });
    until(async || renewals(&liar) > before).await;
    assert!(other.oauth.disconnect(&did).await.unwrap());
    assert_eq!(caller.await.unwrap().unwrap_err().reason(), "SIGN_IN_AGAIN");
    assert_eq!(app.oauth.scopes(&did).await.unwrap(), None);
    // Both the tokens that were there and those that came too late are given back.
    until(async || liar.asked("/revoke").len() == 2).await;
    let given_back: Vec<_> = liar.asked("/revoke").iter().map(|form| form["token"].clone()).collect();
    assert_ne!(given_back[0], given_back[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_kept_tells_nothing_and_opens_for_its_account_only() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&shared(&test, &plc, None)).await;
    let liar = Liar::start(&plc).await;
    sign_in(&app, &liar, &liar.did).await.unwrap();
    let key = |did: &str| Key::new(Kind::Bluesky, did);
    let kept = app.kv.get(&key(&liar.did)).await.unwrap().unwrap();
    let shown = String::from_utf8_lossy(&kept);
    assert!(["access-", "refresh-", &liar.did, &liar.origin].iter().all(|word| !shown.contains(word)));
    let other = new_did();
    app.kv.set(&key(&other), &kept, Duration::from_mins(1)).await.unwrap();
    assert_eq!(app.oauth.scopes(&Did::parse(&other).unwrap()).await.unwrap(), None);
    // The store may lose everything: then people sign in again.
    app.kv.delete(&key(&liar.did)).await.unwrap();
    assert_eq!(app.oauth.call(&did(&liar), &ask()).await.unwrap_err().reason(), "SIGN_IN_AGAIN");
}
