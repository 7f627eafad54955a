use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::infra::http::fake::{self, FakeDns, FakeHost, Heard, Said};

/// An AppView that answers every list with what `say` returns.
async fn appview(say: impl Fn(&[String]) -> String + Send + Sync + 'static) -> (AppView, FakeHost, FakeDns) {
    let host = FakeHost::hearing("127.0.0.1:0", move |heard| say(&asked(heard))).await;
    let dns = FakeDns::start(|_, _| Said::Nothing).await;
    let url = Url::parse(&format!("http://localhost:{}", host.at.port())).unwrap();
    (AppView::new(fake::local(&dns), url), host, dns)
}

fn asked(heard: &Heard) -> Vec<String> {
    let url = Url::parse("http://host").unwrap().join(&heard.path).unwrap();
    url.query_pairs().map(|(_, actor)| actor.into_owned()).collect()
}

fn plc(number: usize) -> String {
    let letters = "abcdefghijklmnopqrstuvwxyz".as_bytes();
    let [a, b] = [number / 26, number % 26].map(|digit| char::from(letters[digit]));
    format!("did:plc:{}{a}{b}", "a".repeat(22))
}

fn page(entries: &[Value]) -> String {
    fake::json(200, &json!({ "profiles": entries }).to_string())
}

#[tokio::test]
async fn who_asks_at_once_shares_requests_of_25() {
    let (appview, host, _dns) = appview(|actors| {
        assert!(actors.len() <= MOST);
        page(&actors.iter().map(|did| json!({ "did": did, "handle": "handle.invalid" })).collect::<Vec<_>>())
    })
    .await;
    let dids: Vec<String> = (0..200).map(plc).collect();
    // Everybody twice.
    let found = join_all(dids.iter().chain(&dids).map(|did| appview.profile(did))).await;
    for (found, did) in found.into_iter().zip(dids.iter().chain(&dids)) {
        assert_eq!(found.unwrap().unwrap().did.as_str(), did);
    }
    assert_eq!(host.connections(), 200 / MOST);
    assert!(appview.waiting().asked.is_empty() && appview.waiting().next.is_empty());
}

#[tokio::test]
async fn who_comes_one_by_one_shares_them_too() {
    let (appview, host, _dns) =
        appview(|actors| page(&actors.iter().map(|did| json!({ "did": did })).collect::<Vec<_>>())).await;
    // All of them together take longer than one waits for the next.
    let asked = (0_u32..50).map(|number| {
        let (appview, did) = (appview.clone(), plc(usize::try_from(number).unwrap()));
        async move {
            tokio::time::sleep(LINGER / 4 * number).await;
            appview.profile(&did).await.unwrap()
        }
    });
    assert!(join_all(asked).await.iter().all(Option::is_some));
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn a_name_that_is_refused_takes_nobody_with_it() {
    let bad = plc(7);
    let (appview, _host, _dns) = appview(move |actors| {
        if actors.contains(&plc(7)) {
            return fake::json(400, r#"{"error":"InvalidRequest","message":"no"}"#);
        }
        page(&actors.iter().map(|did| json!({ "did": did })).collect::<Vec<_>>())
    })
    .await;
    let dids: Vec<String> = (0..10).map(plc).collect();
    for (found, did) in join_all(dids.iter().map(|did| appview.profile(did))).await.into_iter().zip(&dids) {
        assert_eq!(found.unwrap().is_some(), *did != bad, "{did}");
    }
}

#[tokio::test]
async fn what_is_said_of_others_or_cannot_be_read_is_left_out() {
    let (appview, _host, _dns) = appview(|_| {
        page(&[
            json!(null),
            json!({ "did": 7 }),
            json!({ "did": "nobody" }),
            json!({ "did": plc(3), "handle": "other.com" }),
            json!({ "did": plc(1), "handle": "Alice.COM", "displayName": 7, "followersCount": -1, "postsCount": 3,
                "labels": ["x", { "src": plc(1), "val": "!no-unauthenticated" },
                    { "src": plc(2), "val": "!hide", "neg": true }] }),
            json!({ "did": plc(2), "handle": "bob.com" }),
        ])
    })
    .await;
    let (dids, handle) = ([plc(1), plc(2), plc(4)], "alice.com".to_owned());
    let found = join_all(dids.iter().chain([&handle]).map(|actor| appview.profile(actor))).await;
    let [one, two, four, alice] = <[_; 4]>::try_from(found).unwrap().map(Result::unwrap);
    let one = one.unwrap();
    assert_eq!(alice.as_ref(), Some(&one));
    assert_eq!((one.display_name, one.followers, one.posts), (None, None, Some(3)));
    assert_eq!(one.labels, [Label { source: plc(1), value: "!no-unauthenticated".into() }]);
    assert_eq!(two.unwrap().handle.unwrap().as_str(), "bob.com");
    assert_eq!(four, None);
    assert_eq!(appview.profile(&format!("did:web:{}.com", "a".repeat(MAX_NAME))).await.unwrap(), None);
}

#[tokio::test]
async fn everybody_hears_of_a_failure_and_is_asked_again_afterwards() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let (appview, _host, _dns) = appview(move |actors| {
        if is_broken.load(std::sync::atomic::Ordering::SeqCst) {
            return fake::json(502, "{}");
        }
        page(&actors.iter().map(|did| json!({ "did": did })).collect::<Vec<_>>())
    })
    .await;
    let dids = [plc(1), plc(2)];
    for outcome in join_all(dids.iter().map(|did| appview.profile(did))).await {
        assert!(matches!(outcome, Err(Error::Upstream { service: "appview", .. })), "{outcome:?}");
    }
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(appview.profile(&plc(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_taken_down_is_told_from_what_is_unknown() {
    for (status, body, expected) in [
        (400, r#"{"error":"AccountTakedown","message":"suspended"}"#, Some(true)),
        (400, r#"{"error":"AccountDeactivated","message":"gone"}"#, Some(true)),
        (400, r#"{"error":"InvalidRequest","message":"Profile not found"}"#, Some(false)),
        (200, "{}", Some(false)),
        (502, "{}", None),
    ] {
        let (appview, _host, _dns) = appview(move |_| fake::json(status, body)).await;
        assert_eq!(appview.withholds(&Did::parse(&plc(1)).unwrap()).await.ok(), expected, "{body}");
    }
}
