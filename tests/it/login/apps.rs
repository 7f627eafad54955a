//! Apps get their sessions by a code that comes to their own address, and nobody else does.

use chrono::TimeDelta;
use data_encoding::BASE64URL_NOPAD;
use gateway::{
    domain::session::{self, Kind, code},
    error::Error,
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::{
    browser::{Browser, Page},
    liar::{Liar, Plc},
    stand::{Stand, Time, settings},
};
use crate::{
    kv::stores::{forget, redis_url},
    support::{
        database::{TestDb, postgres, sqlite},
        devnet::Devnet,
    },
};

const PHONE: &str = "net.openmeet.app:/signed-in";
const PAGE: &str = "https://app.openmeet.example/signed-in?from=gateway";

/// What an app keeps to itself, and what it shows of it.
fn secret() -> (String, String) {
    let verifier = format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(&verifier));
    (verifier, challenge)
}

/// What an app opens the browser with, with all that OAuth has it send.
fn asked<'a>(redirect: &'a str, challenge: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("response_type", "code"),
        ("client_id", "an app"),
        ("redirect_uri", redirect),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        ("state", "a b&c\"<"),
    ]
}

async fn stand(test: &TestDb, plc: &Plc, redis: Option<&str>) -> Stand {
    let key = gateway::infra::seal::Seal::generate().unwrap();
    let namespace = format!("test-{}", Uuid::now_v7().simple());
    let more = [
        ("GATEWAY_NETWORK__PLC_URL", plc.url.as_str()),
        ("GATEWAY_SECRETS__KEYS", &key),
        ("GATEWAY_KV__NAMESPACE", &namespace),
        ("GATEWAY_SESSION__REDIRECTS", &format!("{PHONE},{PAGE}")),
        ("REDIS_URL", redis.unwrap_or_default()),
    ];
    Stand::public(&settings(None, test, &more)).await
}

/// The embedded store on both databases, and Redis.
async fn on_each_store(test: impl AsyncFn(&Stand, &Plc)) {
    let (redis, plc) = (redis_url(), Plc::start().await);
    let mut cases = vec![(sqlite().await, None), (sqlite().await, Some(redis.as_str()))];
    cases.extend(postgres().await.map(|test| (test, None)));
    for (database, redis) in cases {
        let stand = stand(&database, &plc, redis).await;
        test(&stand, &plc).await;
        if redis.is_some() {
            forget(&stand.app.config.kv.namespace).await;
        }
        drop(stand);
        database.discard().await;
    }
}

fn part(url: &str, name: &str) -> Option<String> {
    let url: Url = url.parse().unwrap();
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// Signs in for an app; where the browser is sent then.
async fn sign_in(stand: &Stand, browser: &mut Browser, liar: &Liar, asked: &[(&str, &str)]) -> String {
    let begun = browser.begin_for(&stand.origin, asked, &liar.did).await;
    assert_eq!(begun.status, 303, "{begun:#?}");
    let page = browser.come_back(&stand.origin, &liar.origin, &liar.state()).await;
    assert_eq!(page.status, 303, "{page:#?}");
    page.location().to_owned()
}

/// An app exchanges its code.
async fn exchange(stand: &Stand, code: &str, redirect: &str, verifier: &str) -> Result<String, Value> {
    let body = json!({ "code": code, "redirectUri": redirect, "codeVerifier": verifier }).to_string();
    let url = format!("{}/session/token", stand.origin);
    let page = stand.browser().ask(Method::POST, &url, &[("content-type", "application/json")], Some(body)).await;
    let mut answer: Value = serde_json::from_str(&page.text).unwrap();
    if page.status == 200 { Ok(answer["token"].as_str().unwrap().to_owned()) } else { Err(answer["reason"].take()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_signs_a_person_in_and_nobody_else() {
    on_each_store(async |stand, plc| {
        let liar = Liar::start(plc).await;
        for redirect in [PHONE, PAGE] {
            let (verifier, challenge) = secret();
            let mut browser = stand.browser();
            let called = sign_in(stand, &mut browser, &liar, &asked(redirect, &challenge)).await;
            assert!(called.starts_with(redirect), "{called}");
            assert_eq!(part(&called, "state").as_deref(), Some("a b&c\"<"));
            assert_eq!(browser.cookie(&stand.origin, "session"), None, "the session is the app's alone");
            let code = part(&called, "code").unwrap();
            let token = exchange(stand, &code, redirect, &verifier).await.unwrap();
            let found = session::find(&stand.app, &token).await.unwrap().unwrap();
            assert_eq!((found.user.did.as_deref(), found.session.kind), (Some(liar.did.as_str()), Kind::Bearer));
            let again = exchange(stand, &code, redirect, &verifier).await;
            assert_eq!(again, Err(json!("CODE_INVALID")), "a code opens once");
        }

        // Whoever has caught a code, but not what the app keeps to itself; the code of another address.
        let (verifier, challenge) = secret();
        let mut browser = stand.browser();
        for (redirect, shown) in [(PHONE, secret().0), (PHONE, challenge.clone()), (PAGE, verifier.clone())] {
            let called = sign_in(stand, &mut browser, &liar, &asked(PHONE, &challenge)).await;
            let code = part(&called, "code").unwrap();
            assert_eq!(exchange(stand, &code, redirect, &shown).await, Err(json!("CODE_INVALID")), "{redirect}");
            // And it is of no use any more, to the app itself neither.
            assert_eq!(exchange(stand, &code, PHONE, &verifier).await, Err(json!("CODE_INVALID")));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_minutes() {
    on_each_store(async |stand, plc| {
        let liar = Liar::start(plc).await;
        let (verifier, challenge) = secret();
        let time = Time::default();
        let mut app = stand.app.clone();
        app.clock = time.clock();
        for (after, is_good) in [(TimeDelta::minutes(4), true), (TimeDelta::minutes(6), false)] {
            let called = sign_in(stand, &mut stand.browser(), &liar, &asked(PHONE, &challenge)).await;
            time.pass(after);
            let opened = code::exchange(&app, &part(&called, "code").unwrap(), PHONE, &verifier, None).await;
            assert_eq!(opened.as_ref().map_err(Error::reason).is_ok(), is_good, "after {after}: {opened:?}");
            time.pass(-after);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_where_no_app_is() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let (stand, liar) = (stand(&test, &plc, None).await, Liar::start(&plc).await);
    let (_, challenge) = secret();
    let form = format!("{}/login", stand.origin);
    let long = "x".repeat(2_049);
    let with = |changes: &[(&'static str, Option<&str>)]| {
        let mut asked: Vec<(&str, String)> =
            asked(PHONE, &challenge).into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        for (name, value) in changes {
            asked.retain(|(known, _)| known != name);
            asked.extend(value.map(|value| (*name, value.to_owned())));
        }
        asked
    };
    let mut cases = vec![
        (with(&[("redirect_uri", None)]), "REDIRECT_REFUSED"),
        (with(&[("code_challenge", None)]), "CHALLENGE_INVALID"),
        (with(&[("code_challenge", Some(""))]), "CHALLENGE_INVALID"),
        (with(&[("code_challenge", Some("too short"))]), "CHALLENGE_INVALID"),
        (with(&[("code_challenge_method", None)]), "CHALLENGE_INVALID"),
        (with(&[("code_challenge_method", Some("plain"))]), "CHALLENGE_INVALID"),
        (with(&[("state", Some(&long))]), "STATE_TOO_LONG"),
        // Of what comes twice nothing counts, and least of all a session for the browser instead.
        ([with(&[]), with(&[])].concat(), "REDIRECT_REFUSED"),
    ];
    for uri in [
        "",
        "/",
        "https://evil.example/signed-in",
        "net.openmeet.app:/signed-in/",
        "net.openmeet.app:/signed-in?x",
        "NET.openmeet.app:/signed-in",
        "https://app.openmeet.example/signed-in",
        "https://app.openmeet.example.evil.example/signed-in?from=gateway",
        "javascript:alert(1)",
    ] {
        cases.push((with(&[("redirect_uri", Some(uri))]), "REDIRECT_REFUSED"));
    }
    for (asked, code) in cases {
        let mut browser = stand.browser();
        let fields: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        let page = browser.open(&format!("{form}?{query}")).await;
        assert_eq!((page.status, page.code()), (400, code), "{asked:?}");
        assert!(!page.text.contains("<form"), "nobody is to go on from here");
        // The same, written into a form of ours.
        let hidden = browser.open(&form).await.hidden("form");
        let fields = [&[("identifier", liar.did.as_str()), ("form", &hidden)], fields.as_slice()].concat();
        let page = browser.send(&form, &fields).await;
        assert_eq!((page.status, page.code()), (400, code), "{asked:?}");
    }
    assert!(liar.asked("/par").is_empty(), "no login was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_told_that_its_person_does_not_want_to_and_everything_else_is_said_on_the_page() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let (stand, liar) = (stand(&test, &plc, None).await, Liar::start(&plc).await);
    let (_, challenge) = secret();
    let mut browser = stand.browser();
    let fail = async |browser: &mut Browser, asked: &[(&str, &str)], error: &str| -> Page {
        browser.begin_for(&stand.origin, asked, &liar.did).await;
        let state = liar.state();
        let answer = [("state", state.as_str()), ("iss", &liar.origin), ("error", error)];
        let answer = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        browser.open(&format!("{}/oauth/callback?{answer}", stand.origin)).await
    };
    let asked = asked(PAGE, &challenge);
    let page = fail(&mut browser, &asked, "access_denied").await;
    assert_eq!(page.status, 303, "{page:#?}");
    assert!(page.location().starts_with(PAGE) && part(page.location(), "code").is_none(), "{page:#?}");
    assert_eq!(part(page.location(), "error").as_deref(), Some("access_denied"));
    assert_eq!(part(page.location(), "state").as_deref(), Some("a b&c\"<"));
    // What the app would not know what to do about is said to the person, who may begin again for the same app.
    let page = fail(&mut browser, &asked, "server_error").await;
    assert_eq!((page.status, page.code()), (502, "UPSTREAM_UNAVAILABLE"));
    let again = format!("{}{}", stand.origin, page.link("Start again"));
    assert_eq!(part(&again, "redirect_uri").as_deref(), Some(PAGE));
    assert_eq!(part(&again, "code_challenge"), Some(challenge.clone()));
    assert_eq!(browser.open(&again).await.hidden("redirect_uri"), PAGE);
    // A login of another browser tells this one nothing, not even what it is for.
    browser.begin_for(&stand.origin, &asked, &liar.did).await;
    let page = stand.browser().come_back(&stand.origin, &liar.origin, &liar.state()).await;
    assert_eq!((page.code(), page.link("Start again").as_str()), ("LOGIN_BROWSER", "/login"));
    // Declined in the browser, it is said there.
    let page = fail(&mut browser, &[("return_to", "/graphiql")], "access_denied").await;
    assert_eq!((page.code(), page.link("Start again").as_str()), ("LOGIN_DECLINED", "/login?return_to=%2Fgraphiql"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_signs_people_in_at_real_servers() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let stand = Stand::public(&settings(Some(&devnet), &test, &[("GATEWAY_SESSION__REDIRECTS", PHONE)])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    // Who did not allow everything is told, and goes on to the app from there.
    for (account, scope) in [(&ann, None), (&cid, Some("atproto"))] {
        let (verifier, challenge) = secret();
        let mut browser = stand.browser();
        let begun = browser.begin_for(&stand.origin, &asked(PHONE, &challenge), &account.handle).await;
        let back = browser.approve(begun.location(), account, scope).await;
        let page = browser.open(&back).await;
        let called = if scope.is_some() { page.link("Continue") } else { page.location().to_owned() };
        let token = exchange(&stand, &part(&called, "code").unwrap(), PHONE, &verifier).await.unwrap();
        let found = session::find(&stand.app, &token).await.unwrap().unwrap();
        assert_eq!(found.user.did.as_deref(), Some(account.did.as_str()));
    }
    // And who declines is not kept waiting.
    let mut browser = stand.browser();
    let page = browser.begin_for(&stand.origin, &asked(PHONE, &secret().1), &ann.handle).await;
    let back = browser.decline(page.location()).await;
    let page = browser.open(&back).await;
    assert_eq!(part(page.location(), "error").as_deref(), Some("access_denied"));
}
