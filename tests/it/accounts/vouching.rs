//! Tokens with which a PDS vouches for a member: what opens, once, and all that does not.

use data_encoding::BASE64URL_NOPAD;
use futures_util::future::join_all;
use gateway::{
    app::App,
    config,
    domain::{
        account::sign_in,
        actor::{Actor, Shown, identify},
        person::Role,
        vouching::METHOD,
    },
    error::Code,
    infra::clock::Clock,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::signed_in;
use crate::{
    kv::stores::{forget, redis_url, until},
    support::{
        database::{TestDb, databases, on_each_database, sqlite},
        proxy::Proxy,
        records::did,
    },
};

const AUDIENCE: &str = "did:web:gateway.example#openmeet";

/// Makes a token say something else.
type Change<'a> = &'a dyn Fn(&mut Value);

/// Keys of either curve; the numbers are no secrets.
enum Signer {
    P256(p256::ecdsa::SigningKey),
    K256(k256::ecdsa::SigningKey),
}

impl Signer {
    fn new(is_p256: bool, number: u8) -> Self {
        if is_p256 {
            Self::P256(p256::ecdsa::SigningKey::from_slice(&[number; 32]).unwrap())
        } else {
            Self::K256(k256::ecdsa::SigningKey::from_slice(&[number; 32]).unwrap())
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::K256(_) => "ES256K",
        }
    }

    /// As a DID document has it.
    fn multikey(&self) -> String {
        let (codec, point) = match self {
            Self::P256(key) => ([0x80, 0x24], key.verifying_key().to_sec1_point(true).as_bytes().to_vec()),
            Self::K256(key) => ([0xe7, 0x01], key.verifying_key().to_sec1_point(true).as_bytes().to_vec()),
        };
        multibase::encode(multibase::Base::Base58Btc, [&codec[..], &point].concat())
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = match self {
            Self::P256(key) => {
                use p256::ecdsa::signature::Signer as _;
                let signature: p256::ecdsa::Signature = key.sign(signed.as_bytes());
                signature.normalize_s().to_bytes().to_vec()
            }
            Self::K256(key) => {
                use k256::ecdsa::signature::Signer as _;
                let signature: k256::ecdsa::Signature = key.sign(signed.as_bytes());
                signature.normalize_s().to_bytes().to_vec()
            }
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

/// A directory that knows two people, each with a key of another curve.
async fn directory() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let document = |asked: &str| {
        let person = (1..3).find(|person| did(7, *person) == asked)?;
        let key = Signer::new(person == 1, 7).multikey();
        Some(json!({
            "id": asked, "alsoKnownAs": [], "service": [],
            "verificationMethod": [
                { "id": format!("{asked}#other"), "type": "Multikey", "publicKeyMultibase": "zzz" },
                { "id": format!("{asked}#atproto"), "type": "Multikey", "publicKeyMultibase": key },
            ],
        }))
    };
    let answer = move |axum::extract::Path(asked): axum::extract::Path<String>| async move {
        document(&asked).map(axum::Json).ok_or(axum::http::StatusCode::NOT_FOUND)
    };
    let router = axum::Router::new().route("/{did}", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn open(test: &TestDb, directory: &str) -> App {
    open_with(test, directory, "").await
}

/// With these settings of the section `kv`.
async fn open_with(test: &TestDb, directory: &str, kv: &str) -> App {
    let settings = format!(
        "database = {{ url = {:?}, max_connections = 6 }}\nstreams = {{ endpoints = [] }}
        network = {{ plc_url = {directory:?}, allow_private = true }}
        kv = {{ {kv} }}
        access = {{ audiences = [{AUDIENCE:?}], operators = [{:?}] }}",
        test.url,
        did(7, 1)
    );
    let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

async fn show(app: &App, token: &str) -> Result<Actor, Code> {
    let shown = format!("Bearer {token}");
    let shown = Shown { authorization: Some(&shown), cookie: None };
    identify(app, shown, None).await.map_err(|error| error.code())
}

#[tokio::test]
async fn a_member_is_vouched_for_once_and_by_their_own_key() {
    on_each_database(async |test| {
        let directory = directory().await;
        let app = open(test, &directory).await;
        for person in [1, 2] {
            let user = sign_in(&app, &signed_in(person)).await.unwrap();
            let signer = Signer::new(person == 1, 7);
            let now = app.clock.now().timestamp();
            let number = std::cell::Cell::new(0);
            let claims = |change: &dyn Fn(&mut Value)| {
                number.set(number.get() + 1);
                let mut claims = json!({
                    "iss": did(7, person), "aud": AUDIENCE, "exp": now + 60, "iat": now, "lxm": METHOD,
                    "jti": format!("mark {}", number.get()),
                });
                change(&mut claims);
                claims
            };
            let header = json!({ "typ": "JWT", "alg": signer.algorithm() });
            let good = signer.token(&header, &claims(&|_| {}));
            let Ok(Actor::Person(shown)) = show(&app, &good).await else { panic!("{person} is not let in") };
            assert_eq!((shown.user, shown.did), (user.id, Some(did(7, person))));
            // Also the operator: the token was made for a program.
            assert_eq!((shown.role, shown.session), (Role::Member, None));
            assert_eq!(show(&app, &good).await, Err(Code::Unauthenticated), "shown again");

            let changes: [(&str, Change<'_>); 16] = [
                ("aud", &|claims| claims["aud"] = json!("did:web:gateway.example")),
                ("aud", &|claims| claims["aud"] = json!("did:web:other.example")),
                ("aud", &|claims| claims["aud"] = json!([AUDIENCE])),
                ("lxm", &|claims| claims["lxm"] = json!("app.bsky.feed.getTimeline")),
                ("lxm", &|claims| claims["lxm"] = Value::Null),
                ("exp", &|claims| claims["exp"] = json!(now - 1)),
                ("exp", &|claims| claims["exp"] = json!(now + 1_000)),
                ("exp", &|claims| claims["exp"] = json!(i64::MAX)),
                ("exp", &|claims| claims["exp"] = json!("soon")),
                ("iat", &|claims| claims["iat"] = json!(now + 250)),
                ("jti", &|claims| claims["jti"] = Value::Null),
                ("jti", &|claims| claims["jti"] = json!("")),
                ("iss", &|claims| claims["iss"] = json!(did(7, 3 - person))),
                ("iss", &|claims| claims["iss"] = json!(did(7, 9))),
                ("iss", &|claims| claims["iss"] = json!("")),
                ("iss", &|claims| claims["iss"] = json!(7)),
            ];
            for (name, change) in changes {
                let claims = claims(change);
                assert_eq!(
                    show(&app, &signer.token(&header, &claims)).await,
                    Err(Code::Unauthenticated),
                    "{name}: {claims}"
                );
            }
            let stranger = Signer::new(person == 1, 8);
            let other_curve = Signer::new(person != 1, 7);
            for (what, signer, header) in [
                ("another key", &stranger, header.clone()),
                ("another curve", &other_curve, json!({ "alg": other_curve.algorithm() })),
                ("another curve's name", &signer, json!({ "alg": other_curve.algorithm() })),
                ("none", &signer, json!({ "alg": "none" })),
                ("HS256", &signer, json!({ "alg": "HS256" })),
                ("an access token", &signer, json!({ "alg": signer.algorithm(), "typ": "at+jwt" })),
            ] {
                let token = signer.token(&header, &claims(&|_| {}));
                assert_eq!(show(&app, &token).await, Err(Code::Unauthenticated), "{what}");
            }
            let token = signer.token(&header, &claims(&|_| {}));
            let cut = token.rsplit_once('.').unwrap().0;
            for wrong in
                [format!("{cut}."), format!("{cut}.AAAA"), format!("{token}A"), "ey..".into(), "ey.ey.ey".into()]
            {
                assert_eq!(show(&app, &wrong).await, Err(Code::Unauthenticated), "{wrong}");
            }
            assert!(show(&app, &token).await.is_ok());
        }
        // Somebody who has never signed in is nobody, whoever vouches.
        let claims = json!({
            "iss": did(7, 3), "aud": AUDIENCE, "exp": app.clock.now().timestamp() + 60, "lxm": METHOD, "jti": "x",
        });
        let token = Signer::new(true, 7).token(&json!({ "alg": "ES256" }), &claims);
        assert_eq!(show(&app, &token).await, Err(Code::Unauthenticated));
    })
    .await;
}

/// A token that is as it should be, under a mark of its own.
fn good(app: &App, mark: &str) -> String {
    let signer = Signer::new(true, 7);
    let exp = app.clock.now().timestamp() + 60;
    let claims = json!({ "iss": did(7, 1), "aud": AUDIENCE, "exp": exp, "lxm": METHOD, "jti": mark });
    signer.token(&json!({ "typ": "JWT", "alg": signer.algorithm() }), &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_show_a_token_at_once_one_is_let_in_on_every_store() {
    let (redis, directory) = (redis_url(), directory().await);
    for url in ["", &redis] {
        for test in databases().await {
            let namespace = format!("test-{}", Uuid::now_v7().simple());
            let kv = format!("url = {url:?}, namespace = {namespace:?}");
            // As two processes.
            let apps = [open_with(&test, &directory, &kv).await, open_with(&test, &directory, &kv).await];
            sign_in(&apps[0], &signed_in(1)).await.unwrap();
            for round in 0..3 {
                let token = good(&apps[0], &format!("round {round}"));
                let shown = join_all((0..20).map(|number| show(&apps[number % 2], &token))).await;
                let let_in = shown.iter().filter(|shown| matches!(shown, Ok(Actor::Person(_)))).count();
                let refused = shown.iter().filter(|shown| **shown == Err(Code::Unauthenticated)).count();
                assert_eq!((let_in, refused), (1, 19), "on redis: {}", !url.is_empty());
            }
            if !url.is_empty() {
                forget(&namespace).await;
            }
            test.discard().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_knows_what_was_shown_before_nothing_opens() {
    let (redis, directory, test) = (redis_url(), directory().await, sqlite().await);
    let way = Proxy::before(&redis).await;
    let namespace = format!("test-{}", Uuid::now_v7().simple());
    let kv = format!("url = {:?}, namespace = {namespace:?}", format!("redis://{}", way.address));
    let app = open_with(&test, &directory, &kv).await;
    sign_in(&app, &signed_in(1)).await.unwrap();
    until(async || app.kv.ping().await.is_ok()).await;
    assert!(show(&app, &good(&app, "before")).await.is_ok());
    let address = way.address;
    drop(way);
    for mark in ["before", "after"] {
        assert_eq!(show(&app, &good(&app, mark)).await, Err(Code::Unavailable), "{mark}");
    }
    let _way = Proxy::at(address, &redis).await;
    until(async || app.kv.ping().await.is_ok()).await;
    assert_eq!(show(&app, &good(&app, "before")).await, Err(Code::Unauthenticated));
    assert!(show(&app, &good(&app, "after")).await.is_ok());
    forget(&namespace).await;
    test.discard().await;
}
