use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::infra::http::fake::{self, FakeDns, FakeHost, Said as Dns};

const ALICE: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const BOB: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";

fn did(text: &str) -> Did {
    text.parse().unwrap()
}

fn document(aliases: &Value) -> Value {
    json!({
        "@context": ["https://www.w3.org/ns/did/v1", {"x": 1}],
        "id": ALICE,
        "alsoKnownAs": aliases,
        "verificationMethod": [{"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zQ3"}],
        "service": [
            {"id": "#other", "type": "Other", "serviceEndpoint": {"uri": "https://other.example"}},
            {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "http://localhost:2583/x?y"},
        ],
    })
}

/// A local network: a PLC directory with one answer, and a DNS with one answer.
async fn network(answer: (u16, String), dns: fn(&str) -> Dns) -> (Directory, FakeHost, FakeDns) {
    let plc = FakeHost::start("127.0.0.1:0", move |path| {
        if path.ends_with(ALICE) { fake::json(answer.0, &answer.1) } else { fake::json(500, "{}") }
    })
    .await;
    let dns = FakeDns::start(move |name, _| dns(name)).await;
    let plc_url = Url::parse(&format!("http://localhost:{}", plc.at.port())).unwrap();
    (Directory::new(fake::local(&dns), DirectorySettings { plc_url, plc_mirror: None }), plc, dns)
}

async fn resolve(document: &Value, dns: fn(&str) -> Dns) -> Resolved {
    let (directory, _plc, _dns) = network((200, document.to_string()), dns).await;
    directory.resolve(&did(ALICE)).await.unwrap().unwrap()
}

fn alice(name: &str) -> Dns {
    match name {
        "_atproto.alice.test" => Dns::Texts(vec!["v=spf1".into(), format!("did={ALICE}"), format!("did={ALICE}")]),
        _ => Dns::Nothing,
    }
}

#[tokio::test]
async fn a_handle_is_verified_in_both_directions() {
    let resolved = resolve(&document(&json!(["https://alice.com", "at://ALICE.test", "at://bob.test"])), alice).await;
    assert_eq!(
        resolved,
        Resolved {
            did: ALICE.into(),
            handle: Handle::Verified("alice.test".into()),
            pds: Some(Url::parse("http://localhost:2583/").unwrap()),
            signing_key: None,
        }
    );
}

#[tokio::test]
async fn only_the_first_handle_counts() {
    let resolved = resolve(&document(&json!(["at://nobody.test", "at://alice.test"])), alice).await;
    assert_eq!(resolved.handle, Handle::Invalid { claimed: Some("nobody.test".into()) });
    let resolved =
        resolve(&document(&json!(["at://not a handle", 7, "at://alice.test/", "at://alice.test"])), alice).await;
    assert_eq!(resolved.handle, Handle::Verified("alice.test".into()));
}

#[tokio::test]
async fn a_domain_that_names_others_makes_the_handle_invalid() {
    let claims = document(&json!("at://alice.test"));
    let invalid = Handle::Invalid { claimed: Some("alice.test".into()) };
    let other: fn(&str) -> Dns = |_| Dns::Texts(vec![format!("did={BOB}")]);
    let several: fn(&str) -> Dns = |_| Dns::Texts(vec![format!("did={ALICE}"), format!("did={BOB}")]);
    let none: fn(&str) -> Dns = |_| Dns::Nothing;
    for dns in [other, several, none] {
        assert_eq!(resolve(&claims, dns).await.handle, invalid);
    }
    assert_eq!(resolve(&document(&json!([])), alice).await.handle, Handle::Invalid { claimed: None });
    let reserved = resolve(&document(&json!(["at://alice.local"])), |_| Dns::Texts(vec![format!("did={ALICE}")])).await;
    assert_eq!(reserved.handle, Handle::Invalid { claimed: Some("alice.local".into()) });
}

#[tokio::test]
async fn a_domain_that_cannot_be_asked_takes_no_handle_away() {
    let claims = document(&json!(["at://alice.test"]));
    assert_eq!(resolve(&claims, |_| Dns::Failure).await.handle, Handle::Unknown);
    // The web server is away as well (nothing listens on port 443), or its domain does not exist: DNS might still say yes.
    let silent: fn(&str) -> Dns = |name| if name.starts_with('_') { Dns::Failure } else { Dns::Nothing };
    assert_eq!(resolve(&claims, silent).await.handle, Handle::Unknown);
}

#[test]
fn a_web_answer_names_somebody_or_nobody() {
    let said = |body: &'static [u8]| {
        named_by(&Answer { status: 200, headers: reqwest::header::HeaderMap::new(), body: body.into() })
    };
    assert_eq!(said(b" did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\r\n"), Said::One(did(ALICE)));
    for body in [&b"<html>did:plc:aaaaaaaaaaaaaaaaaaaaaaaa</html>"[..], b"", b"\xff\xfe"] {
        assert_eq!(said(body), Said::Nobody);
    }
}

#[tokio::test]
async fn a_handle_names_one_or_nobody() {
    let dns: fn(&str) -> Dns = |name| match name {
        "_atproto.several.test" => Dns::Texts(vec![format!("did={ALICE}"), format!("did={BOB}")]),
        "_atproto.nonsense.test" => Dns::Texts(vec!["did=nobody".into()]),
        "_atproto.broken.test" => Dns::Failure,
        "_atproto.alice.local" | "_atproto.alice.onion" => Dns::Texts(vec![format!("did={ALICE}")]),
        // Nothing listens on port 443.
        "broken.test" => Dns::Addresses(vec![[127, 0, 0, 1].into()]),
        name => alice(name),
    };
    let (directory, _plc, _dns) = network((500, "{}".into()), dns).await;
    let named = async |handle: &str| directory.resolve_handle(&syntax::Handle::parse(handle).unwrap()).await;
    assert_eq!(named("Alice.TEST").await.unwrap(), Some(did(ALICE)));
    for nobody in ["several.test", "nonsense.test", "nobody.test", "alice.local", "alice.onion"] {
        assert_eq!(named(nobody).await.unwrap(), None, "{nobody}");
    }
    assert!(matches!(named("broken.test").await, Err(Error::Upstream { service: "handle", .. })));
}

#[tokio::test]
async fn a_mirror_stands_in_for_a_directory_that_is_away_and_never_for_its_no() {
    let claims = document(&json!(["at://alice.test"])).to_string();
    let other = claims.replace(ALICE, BOB);
    for (directory, mirror, expected) in [
        ((404, "{}"), (200, claims.as_str()), Ok(false)),
        ((410, "{}"), (200, &claims), Ok(false)),
        ((502, "{}"), (200, &claims), Ok(true)),
        ((429, "{}"), (200, &claims), Ok(true)),
        ((200, &other), (200, &claims), Ok(true)),
        ((502, "{}"), (404, "{}"), Err(())),
        ((502, "{}"), (200, &other), Err(())),
        ((502, "{}"), (502, "{}"), Err(())),
    ] {
        let answer = mirror.1.to_owned();
        let copy = FakeHost::start("127.0.0.1:0", move |_| fake::json(mirror.0, &answer)).await;
        let (directory, _plc, _dns) = network((directory.0, directory.1.to_owned()), alice).await;
        let plc_mirror = Some(Url::parse(&format!("http://localhost:{}/copy", copy.at.port())).unwrap());
        let settings = DirectorySettings { plc_mirror, ..directory.settings.clone() };
        let found = Directory::new(directory.outbound, settings).resolve(&did(ALICE)).await;
        assert_eq!(found.map(|found| found.is_some()).map_err(|_| ()), expected);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_none_and_what_fails_is_an_error() {
    for status in [404, 410] {
        let (directory, _plc, _dns) = network((status, "{}".into()), alice).await;
        assert_eq!(directory.resolve(&did(ALICE)).await.unwrap(), None);
    }
    let mut foreign = document(&json!(["at://alice.test"]));
    foreign["id"] = json!(BOB);
    for answer in [(500, "{}".into()), (200, "<html>".into()), (200, "[]".into()), (200, foreign.to_string())] {
        let (directory, _plc, _dns) = network(answer, alice).await;
        assert!(matches!(directory.resolve(&did(ALICE)).await, Err(Error::Upstream { service: "plc", .. })));
    }
    let (directory, plc, _dns) = network((200, "{}".into()), alice).await;
    for text in
        ["did:plc:short", "did:plc:AAAAAAAAAAAAAAAAAAAAAAAA", "did:key:zQ3sh", "did:web:a.com:path", "did:web:a%2Fb"]
    {
        assert_eq!(directory.resolve(&did(text)).await.unwrap(), None, "{text}");
    }
    assert_eq!(plc.connections(), 0);
}

#[tokio::test]
async fn any_shape_of_document_is_read() {
    for (service, pds) in [
        (json!(null), None),
        (json!("x"), None),
        (json!([{"id": "#atproto_pds"}]), None),
        (json!([{"id": "#atproto_pds", "type": "Other", "serviceEndpoint": "https://pds.com"}]), None),
        (json!([{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": {"a": 1}}]), None),
        (json!([{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "mailto:a@b"}]), None),
        (
            json!([{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://u:p@pds.com"}]),
            None,
        ),
        (
            json!({"id": format!("{ALICE}#atproto_pds"), "type": ["AtprotoPersonalDataServer"], "serviceEndpoint": "https://pds.com"}),
            Some("https://pds.com/"),
        ),
    ] {
        let resolved = resolve(&json!({"@context": "x", "id": ALICE, "service": service}), alice).await;
        assert_eq!(resolved.pds.as_ref().map(Url::as_str), pds, "{service}");
        assert_eq!(resolved.handle, Handle::Invalid { claimed: None });
    }
}

#[tokio::test]
async fn a_web_did_is_a_host_and_its_port_is_for_local_networks() {
    let asked = Arc::new(Mutex::new(String::new()));
    let (seen, own) = (Arc::clone(&asked), Arc::new(Mutex::new(String::new())));
    let named = Arc::clone(&own);
    let host = FakeHost::start("127.0.0.1:0", move |path| {
        path.clone_into(&mut seen.lock().unwrap());
        fake::json(200, &json!({"id": *named.lock().unwrap()}).to_string())
    })
    .await;
    let local = format!("did:web:localhost%3A{}", host.at.port());
    local.clone_into(&mut own.lock().unwrap());
    let (directory, _plc, _dns) = network((200, "{}".into()), alice).await;
    assert_eq!(directory.resolve(&did(&local)).await.unwrap().unwrap().did, local);
    assert_eq!(*asked.lock().unwrap(), "/.well-known/did.json");

    let dns = FakeDns::start(|_, _| Dns::Addresses(vec![[127, 0, 0, 1].into()])).await;
    let settings = fake::settings(&dns, false);
    let public = Directory::new(Outbound::new(settings).unwrap(), directory.settings.clone());
    assert_eq!(public.resolve(&did(&local)).await.unwrap(), None);
    assert_eq!(public.resolve(&did("did:web:rebound.com")).await.unwrap(), None);
    assert_eq!(public.resolve(&did("did:web:localhost")).await.unwrap_err().reason(), "URL_REFUSED");
    assert_eq!(host.connections(), 1);
}
