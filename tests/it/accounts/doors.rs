//! Sessions at the doors: cookies, other people's pages, codes of apps, sockets.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt, StreamExt};
use gateway::{
    api::http::{cookie, router},
    app::App,
    domain::{
        account::sign_in,
        session::{
            self, Kind,
            code::{self, Wanted},
        },
        tenant,
    },
    error::Error,
    infra::kv::{Kv, KvSettings},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use uuid::Uuid;

use super::{claiming::event_of, signed_in};
use crate::{
    kv::stores::{forget, redis_url},
    support::{
        app::TestApp,
        database::{TestDb, on_each_database, sqlite},
        gateway::Launch,
        graphql::GraphQl,
    },
};

const APP: &str = "net.openmeet.app:/signed-in";
const VIEWER: &str = "{ viewer { user { did } role sessions { id kind isCurrent } } }";
const END_ALL: &str = "mutation { revokeSession(input: {}) { revokedCount } }";

struct Bench {
    app: App,
    doors: Router,
}

impl Bench {
    async fn open(test: &TestDb, public: bool) -> Self {
        let mut app = TestApp::open(test).await.app;
        let mut config = (*app.config).clone();
        config.http.public_url = public.then(|| "https://gateway.example".parse().unwrap());
        config.http.allowed_origins = vec!["https://app.example".to_owned(), "*".to_owned()];
        config.session.redirects = vec![APP.to_owned()];
        app.config = config.into();
        Self { doors: doors(&app), app }
    }

    fn use_store(&mut self, kv: Kv) {
        self.app.kv = kv;
        self.doors = doors(&self.app);
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> (StatusCode, HeaderMap, Value) {
        let mut request =
            Request::post(path).header("content-type", "application/json").header("host", "gateway.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.doors.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn ask(&self, headers: &[(&str, &str)], document: &str) -> Value {
        self.send("/graphql", headers, &json!({ "query": document })).await.2
    }
}

fn doors(app: &App) -> Router {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    router(app, metrics, CancellationToken::new(), TaskTracker::new()).unwrap()
}

#[tokio::test]
async fn a_cookie_counts_only_from_pages_that_may_act_for_its_person() {
    on_each_database(async |test| {
        for (public, name, other) in [(true, "__Host-session", "session"), (false, "session", "__Host-session")] {
            let bench = Bench::open(test, public).await;
            let user = sign_in(&bench.app, &signed_in(1)).await.unwrap();
            let opened = session::open(&bench.app, user.id, Kind::Cookie, None).await.unwrap();
            let given = cookie::issue(&bench.app, &opened).unwrap();
            let secure = if public { "; Secure" } else { "" };
            let kept = format!("{name}={}; Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax{secure}", opened.token);
            assert_eq!(given.to_str().unwrap(), kept);
            let cookie = format!("theme=dark; {name}={}", opened.token);
            let own = [("origin", "https://gateway.example")];
            let pages: [(&[(&str, &str)], bool); 8] = [
                (&own, true),
                (&[("origin", "https://app.example")], true),
                (&[("sec-fetch-site", "same-origin")], true),
                (&[("origin", "https://evil.example")], false),
                (&[("origin", "null")], false),
                (&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false),
                (&[("sec-fetch-site", "same-site")], false),
                // A program, or an old browser: nobody says which page asks.
                (&[], false),
            ];
            for (page, may) in pages {
                let with: Vec<(&str, &str)> = page.iter().copied().chain([("cookie", cookie.as_str())]).collect();
                let answer = bench.ask(&with, VIEWER).await;
                assert_eq!(answer["data"]["viewer"].is_object(), may, "{page:?}: {answer}");
                if !may {
                    let answer = bench.ask(&with, END_ALL).await;
                    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{page:?}: {answer}");
                    let (status, ..) = bench.send("/session/end", &with, &json!({})).await;
                    assert_eq!(status, StatusCode::FORBIDDEN, "{page:?}");
                }
            }
            let answer = bench.ask(&[own[0], ("cookie", &cookie)], VIEWER).await;
            let shown = json!({ "did": user.did });
            assert_eq!(answer["data"]["viewer"]["user"], shown, "{answer}");
            assert_eq!(answer["data"]["viewer"]["sessions"][0]["kind"], "COOKIE");
            assert_eq!(answer["data"]["viewer"]["sessions"][0]["isCurrent"], true);

            // What is in a cookie opens nothing in a header, nor the other way round; nor under another name, nor twice.
            let bearer = format!("Bearer {}", opened.token);
            let answer = bench.ask(&[("authorization", &bearer)], VIEWER).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{answer}");
            let token = session::open(&bench.app, user.id, Kind::Bearer, None).await.unwrap().token;
            for wrong in [
                format!("{name}={token}"),
                format!("{other}={}", opened.token),
                format!("{name}=x; {cookie}"),
                format!("{name}="),
            ] {
                let answer = bench.ask(&[own[0], ("cookie", &wrong)], VIEWER).await;
                assert_eq!(answer["data"], json!({ "viewer": null }), "{wrong}: {answer}");
            }
            let (status, headers, _) = bench.send("/session/end", &[own[0], ("cookie", &cookie)], &json!({})).await;
            assert_eq!(status, StatusCode::NO_CONTENT);
            let given = headers["set-cookie"].to_str().unwrap();
            assert_eq!(given, format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}"));
            assert_eq!(session::find(&bench.app, &opened.token).await.unwrap(), None);
            session::revoke_all(&bench.app, user.id).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn answers_with_cookies_are_for_origins_that_are_named() {
    on_each_database(async |test| {
        let bench = Bench::open(test, true).await;
        for (origin, may) in [("https://app.example", true), ("https://evil.example", false)] {
            let body = json!({ "query": "{ serviceInfo { version } }" });
            let (_, headers, _) = bench.send("/graphql", &[("origin", origin)], &body).await;
            assert_eq!(headers.contains_key("access-control-allow-credentials"), may, "{origin}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_app_gets_its_session_by_a_code_that_opens_once() {
    let namespace = format!("test-{}", Uuid::now_v7().simple());
    on_each_database(async |test| a_code_opens_once(&Bench::open(test, true).await).await).await;
    let test = sqlite().await;
    let mut bench = Bench::open(&test, true).await;
    let shared = KvSettings { url: Some(redis_url()), namespace: namespace.clone() };
    bench.use_store(Kv::open(&shared, bench.app.db.clone(), bench.app.clock.clone()).await.unwrap());
    a_code_opens_once(&bench).await;
    forget(&namespace).await;
}

async fn a_code_opens_once(bench: &Bench) {
    let user = sign_in(&bench.app, &signed_in(1)).await.unwrap();
    let verifier = "v".repeat(43);
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(&verifier));
    let state = Some("a b&c".to_owned());
    let wanted = Wanted { redirect_uri: APP.into(), challenge: challenge.clone(), method: "S256".into(), state };
    let asked =
        |code: &str, uri: &str, verifier: &str| json!({ "code": code, "redirectUri": uri, "codeVerifier": verifier });
    let code = code::issue(&bench.app, user.id, &wanted).await.unwrap();
    let way_back = wanted.way_back(&bench.app, &code).unwrap();
    assert_eq!(way_back.as_str(), format!("{APP}?code={code}&state=a+b%26c"));
    let agent = ("user-agent", "an app");
    let (status, headers, answer) = bench.send("/session/token", &[agent], &asked(&code, APP, &verifier)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(headers["cache-control"], "no-store");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let viewer = bench.ask(&[("authorization", &bearer)], VIEWER).await;
    assert_eq!(viewer["data"]["viewer"]["user"]["did"], json!(user.did), "{viewer}");

    // Once more, with another address, with another verifier; each attempt uses the code up.
    let (status, _, answer) = bench.send("/session/token", &[], &asked(&code, APP, &verifier)).await;
    assert_eq!((status, &answer["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("CODE_INVALID")));
    let other = "w".repeat(43);
    for (uri, shown) in [("net.openmeet.app:/other", verifier.as_str()), (APP, other.as_str()), (APP, "v"), (APP, "")] {
        let code = code::issue(&bench.app, user.id, &wanted).await.unwrap();
        for (uri, shown) in [(uri, shown), (APP, verifier.as_str())] {
            let (_, _, answer) = bench.send("/session/token", &[], &asked(&code, uri, shown)).await;
            assert_eq!(answer["reason"], "CODE_INVALID", "{uri} {shown}");
        }
    }
    for wrong in [json!({}), json!([]), json!({ "code": 1 }), asked("", "", ""), asked("omc_x_y", APP, &verifier)] {
        let (status, _, answer) = bench.send("/session/token", &[], &wrong).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {answer}");
    }
    // Nobody is sent a code whose address is not configured, letter by letter.
    for uri in [
        "https://evil.example/",
        "net.openmeet.app:/signed-in/",
        "net.openmeet.app:/signed-in?x",
        "NET.openmeet.app:/signed-in",
        "",
    ] {
        let wanted = Wanted { redirect_uri: uri.into(), ..wanted.clone() };
        let refused = code::issue(&bench.app, user.id, &wanted).await.unwrap_err();
        assert_eq!(refused.reason(), "REDIRECT_REFUSED", "{uri}");
    }
    for (challenge, method) in [(challenge.as_str(), "plain"), ("", "S256"), ("v", "S256")] {
        let wanted = Wanted { challenge: challenge.into(), method: method.into(), ..wanted.clone() };
        let refused = code::issue(&bench.app, user.id, &wanted).await.unwrap_err();
        assert_eq!(refused.reason(), "CHALLENGE_INVALID", "{challenge} {method}");
    }
}

#[tokio::test]
async fn a_session_opens_its_own_tenant_and_no_other() {
    on_each_database(async |test| {
        let bench = Bench::open(test, true).await;
        tenant::create(&bench.app, "other", "Other").await.unwrap();
        let user = sign_in(&bench.app, &signed_in(1)).await.unwrap();
        let token = session::open(&bench.app, user.id, Kind::Bearer, None).await.unwrap().token;
        let bearer = format!("Bearer {token}");
        for (tenant, code) in [("default", Value::Null), ("other", json!("FORBIDDEN"))] {
            let answer = bench.ask(&[("authorization", &bearer), ("x-tenant-id", tenant)], VIEWER).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{tenant}: {answer}");
        }
        // A browser sends its cookie to pages of every tenant: there it is as none.
        let held = session::open(&bench.app, user.id, Kind::Cookie, None).await.unwrap().token;
        let cookie = format!("__Host-session={held}");
        for (tenant, is_known) in [("default", true), ("other", false)] {
            let headers = [("origin", "https://gateway.example"), ("cookie", &cookie), ("x-tenant-id", tenant)];
            let answer = bench.ask(&headers, VIEWER).await;
            assert_eq!(answer["data"]["viewer"].is_object(), is_known, "{tenant}: {answer}");
        }
        // In another tenant the same person is another account.
        let there = bench.app.of(tenant::Tenant::by_slug(bench.app.db.read(), "other").await.unwrap().unwrap());
        let second = sign_in(&there, &signed_in(1)).await.unwrap();
        assert_ne!(second.id, user.id);
        let found = session::revoke(&bench.app, second.id, 1).await.unwrap_err();
        assert!(matches!(found, Error::NotFound { .. }));
    })
    .await;
}

/// Who the viewer is on a socket that a page of this origin opens with this cookie; nothing when it may open none.
async fn viewer_on_socket(address: SocketAddr, origin: &str, cookie: &str) -> Option<Value> {
    let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
    for (name, value) in [("sec-websocket-protocol", "graphql-transport-ws"), ("origin", origin), ("cookie", cookie)] {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    let (mut socket, _) = connect_async(request).await.ok()?;
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ viewer { user { did } } }" } });
    for said in [json!({ "type": "connection_init" }), subscribe] {
        socket.send(Message::text(said.to_string())).await.unwrap();
    }
    loop {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
        let mut heard: Value = serde_json::from_str(&text).unwrap();
        if heard["type"] == "next" {
            return Some(heard["payload"]["data"]["viewer"].take());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_opens_sockets_of_own_pages_only() {
    let test = sqlite().await;
    let app = TestApp::open(&test).await.app;
    let user = sign_in(&app, &signed_in(1)).await.unwrap();
    let opened = session::open(&app, user.id, Kind::Cookie, None).await.unwrap();
    let settings = [
        ("GATEWAY_STREAMS__ENDPOINTS", String::new()),
        ("GATEWAY_STREAMS__BACKFILL", String::new()),
        ("GATEWAY_HTTP__ALLOWED_ORIGINS", "*".to_owned()),
    ];
    let gateway = Launch::new(&test.url, settings).start().await;
    let cookie = format!("session={}", opened.token);
    let own = format!("http://{}", gateway.address);
    let viewer = viewer_on_socket(gateway.address, &own, &cookie).await;
    assert_eq!(viewer, Some(json!({ "user": { "did": user.did } })));
    // What is for all pages is not for somebody's cookie.
    assert_eq!(viewer_on_socket(gateway.address, "https://evil.example", &cookie).await, Some(Value::Null));
    assert!(gateway.stop().await.success());
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_session() {
    let test = sqlite().await;
    let program = TestApp::open(&test).await;
    program.submit(&[event_of(2, 1, 1), event_of(2, 2, 2)]).await;
    let app = program.app;
    let user = sign_in(&app, &signed_in(1)).await.unwrap();
    let token = session::open(&app, user.id, Kind::Bearer, None).await.unwrap().token;
    let settings = [("GATEWAY_STREAMS__ENDPOINTS", String::new()), ("GATEWAY_STREAMS__BACKFILL", String::new())];
    let gateway = Launch::new(&test.url, settings).start().await;
    let api = GraphQl::new(gateway.address);
    let known = api.query("{ serviceInfo { oldestCursor } }", &json!({})).await;
    let document = "subscription ($after: StreamCursor) { eventIngested(after: $after) { cursor } }";
    let after = json!({ "after": known["serviceInfo"]["oldestCursor"] });
    let mut socket = api.subscribe_as(&token, document, &after).await;
    // It has begun: else its beginning would be refused, and not its end told.
    socket.next().await;
    session::revoke_all(&app, user.id).await.unwrap();
    while socket.next_or_end().await.is_some() {}
    assert_eq!(socket.closed, Some(4401));
    assert!(gateway.stop().await.success());
    test.discard().await;
}
