//! A server that lies in every field: there is always an error, never a login of somebody else and never a panic.

use fastrand::Rng;
use gateway::{
    app::App,
    domain::{
        actor::Actor,
        login::{self, Browser, Intent, SignedIn, Wanted, WayBack},
    },
    error::{Error, Result},
    infra::atproto::{
        oauth::{Answered, Call, Verdict},
        syntax::{Did, Nsid},
    },
};
use serde_json::{Value, json};

use super::{
    liar::{Liar, Lie, Plc, document, metadata, new_did},
    stand::{open, settings},
};
use crate::support::database::{TestDb, sqlite};

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVER: &str = "/.well-known/oauth-authorization-server";
const CALL: &str = "/xrpc/org.example.ask";
/// Random lies for each document.
const ROUNDS: usize = 150;

async fn gateway(test: &TestDb, plc: &Plc) -> App {
    open(&settings(None, test, &[("GATEWAY_NETWORK__PLC_URL", &plc.url)])).await
}

/// A login from its beginning to its end, as the gateway's own doors do it.
pub(super) async fn sign_in(app: &App, liar: &Liar, typed: &str) -> Result<SignedIn> {
    let begun = begin(app, typed).await?;
    assert!(begun.as_str().starts_with("http"), "{begun}");
    finish(app, &liar.state(), Some(&liar.origin)).await
}

async fn begin(app: &App, typed: &str) -> Result<url::Url> {
    let (origin, intent) = ("http://127.0.0.1:8080".parse().unwrap(), Intent::Browse(WayBack::none()));
    login::begin(app, &Wanted { typed, origin: &origin, browser: "a browser", intent: &intent }).await
}

async fn finish(app: &App, state: &str, issuer: Option<&str>) -> Result<SignedIn> {
    let answered = Answered { state, issuer, verdict: Verdict::Code("a code"), browser: "a browser" };
    let browser = Browser { agent: Some("a browser"), actor: &Actor::Anonymous };
    login::complete(app, &answered, browser).await.map_err(|failed| failed.error)
}

fn call() -> Call {
    Call::query(Nsid::parse("org.example.ask").unwrap(), vec![("a".to_owned(), "b".to_owned())])
}

/// Values that no field should have.
fn wrong() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let mut wrong = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("text"),
        json!("a\nb"),
        json!("\u{0}"),
        json!("ﬀ\u{202e}"),
        json!([]),
        json!([[]]),
        json!([7]),
        json!([null, "x"]),
        json!({}),
        json!({ "a": {} }),
        json!("did:web:"),
        json!("https://"),
        json!("javascript:alert(1)"),
        json!("http://me:secret@127.0.0.1/"),
        json!("file:///etc/passwd"),
        json!("http://[::"),
        json!("//x"),
        json!("#"),
        json!("x".repeat(20_000)),
        json!(vec!["x"; 5_000]),
        deep,
    ];
    wrong.push(json!("http://127.0.0.1:1/".repeat(200)));
    wrong
}

/// What is wrong with every document: its status, its type, its body, its nonce.
fn envelopes(has_nonce: bool) -> Vec<Lie> {
    let mut lies: Vec<Lie> = [204, 206, 302, 400, 401, 403, 404, 410, 418, 500].map(Lie::Status).into();
    let bodies: [Vec<u8>; 9] = [
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"{}\"".to_vec(),
        b"\xff\xfe".to_vec(),
        b"<!doctype html>".to_vec(),
        "[".repeat(60_000).into_bytes(),
        vec![b' '; 70_000],
    ];
    lies.extend(bodies.map(Lie::Body));
    if has_nonce {
        let long: &str = Box::leak("n".repeat(600).into_boxed_str());
        lies.extend([None, Some(""), Some("a b"), Some(long)].map(|nonce| Lie::Header("dpop-nonce", nonce)));
        let again = Lie::Body(br#"{"error":"use_dpop_nonce"}"#.to_vec());
        lies.push(again);
    } else {
        lies.extend([None, Some("text/html"), Some("application/jsonp")].map(|kind| Lie::Header("content-type", kind)));
    }
    lies
}

#[track_caller]
fn is_clear(error: &Error, lie: &str) {
    let is_clear = matches!(error, Error::Upstream { .. } | Error::Invalid { .. } | Error::RateLimited { .. });
    assert!(is_clear, "{lie}: {}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_says_of_itself_nobody_signs_in_by_it() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = gateway(&test, &plc).await;
    let mut lies: Vec<(&'static str, Lie)> = Vec::new();
    for name in ["resource", "authorization_servers"] {
        lies.extend([None].into_iter().chain(wrong().into_iter().map(Some)).map(|v| (RESOURCE, Lie::Field(name, v))));
    }
    let names: Vec<String> = metadata("").as_object().unwrap().keys().cloned().collect();
    for name in names {
        let name: &'static str = Box::leak(name.into_boxed_str());
        let is_good = |value: &Value| match name {
            "revocation_endpoint" => value.is_null(),
            _ => metadata("")[name] == json!(true) && *value == json!(true),
        };
        lies.extend(wrong().into_iter().filter(|v| !is_good(v)).map(|v| (SERVER, Lie::Field(name, Some(v)))));
        if name != "revocation_endpoint" {
            lies.push((SERVER, Lie::Field(name, None)));
        }
    }
    let wrong_uris = wrong().into_iter().filter(|value| !is_plain(value, 2_048));
    lies.extend([None].into_iter().chain(wrong_uris.map(Some)).map(|v| ("/par", Lie::Field("request_uri", v))));
    for name in ["access_token", "token_type", "sub", "scope"] {
        let wrong = wrong().into_iter().filter(|v| !(name == "access_token" && is_plain(v, 8_192)));
        lies.extend([None].into_iter().chain(wrong.map(Some)).map(|v| ("/token", Lie::Field(name, v))));
    }
    let wrong_number = wrong().into_iter().filter(|v| !v.is_null());
    lies.extend(wrong_number.map(|value| ("/token", Lie::Field("expires_in", Some(value)))));
    for value in [json!(7), json!([]), json!({}), json!(""), json!("a b"), json!("x".repeat(20_000))] {
        lies.push(("/token", Lie::Field("refresh_token", Some(value))));
    }
    for (path, has_nonce) in [(RESOURCE, false), (SERVER, false), ("/par", true), ("/token", true)] {
        lies.extend(envelopes(has_nonce).into_iter().map(|lie| (path, lie)));
    }
    // The truth, first, and what may be left out: else nothing of the above would mean anything.
    let honest = Liar::start(&plc).await;
    assert_eq!(sign_in(&app, &honest, &honest.did).await.unwrap().did.as_str(), honest.did);
    for (path, name) in [(SERVER, "revocation_endpoint"), ("/token", "refresh_token"), ("/token", "expires_in")] {
        let brief = Liar::start(&plc).await;
        brief.lie(path, Lie::Field(name, None));
        sign_in(&app, &brief, &brief.did).await.unwrap();
    }
    // A server that is never content with a nonce.
    for path in ["/par", "/token"] {
        let greedy = Liar::start(&plc).await;
        greedy.lie(path, Lie::Status(400));
        greedy.lie(path, Lie::Field("error", Some(json!("use_dpop_nonce"))));
        is_clear(&sign_in(&app, &greedy, &greedy.did).await.unwrap_err(), path);
        assert_eq!(greedy.asked(path).len(), 2, "{path}");
    }
    assert!(lies.len() > 500, "{}", lies.len());
    for (path, lie) in lies {
        let liar = Liar::start(&plc).await;
        liar.lie(path, lie.clone());
        let mut told = format!("{path}: {lie:?}");
        told.truncate(200);
        match sign_in(&app, &liar, &liar.did).await {
            Err(error) => is_clear(&error, &told),
            Ok(_) => panic!("{told}: was believed"),
        }
        assert!(liar.asked("/par").len() <= 2 && liar.asked("/token").len() <= 2, "{told}: asked for ever");
        let did = Did::parse(&liar.did).unwrap();
        assert_eq!(app.oauth.scopes(&did).await.unwrap(), None, "{told}: a session was kept");
    }
}

/// Whether it is a text that may be anything.
fn is_plain(value: &Value, most: usize) -> bool {
    value.as_str().is_some_and(|text| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_for_its_own_accounts_only() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = gateway(&test, &plc).await;
    let (evil, victim) = (Liar::start(&plc).await, Liar::start(&plc).await);

    // Asked for as a server, so that anybody may come back: it says that the victim did.
    evil.lie("/token", Lie::Field("sub", Some(json!(victim.did))));
    let error = sign_in(&app, &evil, &evil.origin).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { service: "oauth", .. }), "{}", error.chain());
    // Somebody whom nobody knows, and somebody else than was asked for.
    evil.repent();
    evil.lie("/token", Lie::Field("sub", Some(json!(new_did()))));
    is_clear(&sign_in(&app, &evil, &evil.origin).await.unwrap_err(), "unknown");
    let error = sign_in(&app, &evil, &evil.did).await.unwrap_err();
    assert_eq!(error.reason(), "LOGIN_ACCOUNT");
    // What it handed out for it is given back.
    while evil.asked("/revoke").len() < 3 {
        tokio::task::yield_now().await;
    }
    // It names the victim's server as its own, which is then asked, and knows nothing of all that.
    evil.repent();
    evil.lie(RESOURCE, Lie::Field("authorization_servers", Some(json!([victim.origin]))));
    begin(&app, &evil.did).await.unwrap();
    let error = finish(&app, &victim.state(), Some(&victim.origin)).await.unwrap_err();
    assert_eq!(error.reason(), "LOGIN_ACCOUNT", "the victim signs in there, who is not who was asked for");
    // The answer to a login at one server comes from another: the mix-up.
    evil.repent();
    begin(&app, &victim.did).await.unwrap();
    let error = finish(&app, &victim.state(), Some(&evil.origin)).await.unwrap_err();
    assert_eq!(error.reason(), "LOGIN_ISSUER");
    begin(&app, &victim.did).await.unwrap();
    assert_eq!(finish(&app, &victim.state(), None).await.unwrap_err().reason(), "LOGIN_ISSUER");
    // The account moves away while its owner signs in.
    begin(&app, &evil.did).await.unwrap();
    evil.documented(document(&evil.did, &victim.origin));
    is_clear(&finish(&app, &evil.state(), Some(&evil.origin)).await.unwrap_err(), "moved");
    for did in [&evil.did, &victim.did] {
        assert_eq!(app.oauth.scopes(&Did::parse(did).unwrap()).await.unwrap(), None);
    }
    sign_in(&app, &victim, &victim.did).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_lies_leads_nowhere() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = gateway(&test, &plc).await;
    for name in ["id", "service"] {
        for value in [None].into_iter().chain(wrong().into_iter().map(Some)) {
            let liar = Liar::start(&plc).await;
            let mut lying = document(&liar.did, &liar.origin);
            match &value {
                Some(value) => lying[name] = value.clone(),
                None => drop(lying.as_object_mut().unwrap().remove(name)),
            }
            liar.documented(lying);
            let error = sign_in(&app, &liar, &liar.did).await.unwrap_err();
            is_clear(&error, name);
        }
    }
    for value in wrong() {
        let liar = Liar::start(&plc).await;
        let mut lying = document(&liar.did, &liar.origin);
        lying["service"][0]["serviceEndpoint"] = value;
        liar.documented(lying);
        is_clear(&sign_in(&app, &liar, &liar.did).await.unwrap_err(), "serviceEndpoint");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_make_it_panic_or_sign_in_somebody_else() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = gateway(&test, &plc).await;
    let mut rng = Rng::with_seed(7);
    for path in [RESOURCE, SERVER, "/par", "/token"] {
        for round in 0..ROUNDS {
            let liar = Liar::start(&plc).await;
            let said = match path {
                RESOURCE => json!({ "resource": liar.origin, "authorization_servers": [liar.origin] }),
                SERVER => metadata(&liar.origin),
                "/par" => json!({ "request_uri": "urn:1" }),
                _ => json!({
                    "access_token": "a", "refresh_token": "b", "token_type": "DPoP", "expires_in": 60,
                    "scope": "atproto", "sub": liar.did,
                }),
            };
            let mut bytes = said.to_string().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => bytes[at] = rng.u8(..),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, rng.u8(..)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            if serde_json::from_slice(&bytes).is_ok_and(|said| leads_away(&said, &liar.origin)) {
                continue;
            }
            liar.lie(path, Lie::Body(bytes.clone()));
            match sign_in(&app, &liar, &liar.did).await {
                Ok(signed_in) => assert_eq!(signed_in.did.as_str(), liar.did),
                Err(error) => is_clear(&error, &format!("{path}, round {round}: {}", String::from_utf8_lossy(&bytes))),
            }
        }
    }
}

/// Whether a document names another host, which a test must not ask.
fn leads_away(said: &Value, origin: &str) -> bool {
    match said {
        Value::String(text) => {
            url::Url::parse(text).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() != origin)
        }
        Value::Array(many) => many.iter().any(|one| leads_away(one, origin)),
        Value::Object(fields) => fields.values().any(|one| leads_away(one, origin)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_the_lies_that_are_told_when_it_is_renewed_or_used() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = gateway(&test, &plc).await;
    let liar = Liar::start(&plc).await;
    let did = Did::parse(&liar.did).unwrap();
    let mut lies = envelopes(true);
    for name in ["access_token", "token_type", "sub", "scope"] {
        lies.extend(
            [None, Some(json!(7)), Some(json!("")), Some(json!("did:web:example.org"))]
                .map(|value| Lie::Field(name, value)),
        );
    }
    for lie in lies {
        // Of text everything may be a token.
        if matches!(&lie, Lie::Field("access_token", Some(Value::String(token))) if !token.is_empty()) {
            continue;
        }
        liar.repent();
        sign_in(&app, &liar, &liar.did).await.unwrap();
        let asked = liar.asked("/token").len();
        liar.lie("/token", lie.clone());
        let mut told = format!("{lie:?}");
        told.truncate(200);
        is_clear(&app.oauth.refresh(&did).await.unwrap_err(), &told);
        assert!(liar.asked("/token").len() <= asked + 2, "{told}");
        assert!(app.oauth.scopes(&did).await.unwrap().is_some(), "{told}: the session is gone");
    }

    liar.repent();
    sign_in(&app, &liar, &liar.did).await.unwrap();
    for (lies, is_an_answer) in [
        (vec![Lie::Header("dpop-nonce", None)], false),
        (vec![Lie::Status(401), Lie::Header("www-authenticate", Some("DPoP error=\"use_dpop_nonce\""))], true),
        (vec![Lie::Status(401), Lie::Header("www-authenticate", Some("DPoP error=\"invalid_token\""))], true),
        (vec![Lie::Status(401), Lie::Header("www-authenticate", Some("DPoP"))], true),
        (vec![Lie::Status(401), Lie::Header("www-authenticate", Some(",=\" DPoP ,,error"))], true),
        (vec![Lie::Status(302), Lie::Header("location", Some("http://127.0.0.1:1/"))], true),
        (vec![Lie::Status(500), Lie::Header("dpop-nonce", None)], true),
    ] {
        liar.repent();
        let asked = liar.asked(CALL).len();
        for lie in &lies {
            liar.lie(CALL, lie.clone());
        }
        let answer = app.oauth.call(&did, &call()).await;
        assert_eq!(answer.is_ok(), is_an_answer, "{lies:?}: {answer:?}");
        assert!(liar.asked(CALL).len() <= asked + 4, "{lies:?}");
    }
    liar.repent();
    assert_eq!(app.oauth.call(&did, &call()).await.unwrap().status, 200, "it still works");
}
