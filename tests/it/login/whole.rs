//! Whole logins, from the form to what the account allows, and back.

use gateway::{
    app::App,
    domain::{login, session},
    infra::atproto::{
        oauth::{Call, Keyset},
        syntax::{Did, Nsid},
    },
};
use serde_json::{Value, json};

use super::stand::{Stand, settings};
use crate::support::{
    database::{postgres, sqlite},
    devnet::{Account, Devnet, EVENT},
};

fn did(account: &Account) -> Did {
    Did::parse(&account.did).unwrap()
}

fn call(method: &str, body: Option<&Value>) -> Call {
    let method = Nsid::parse(method).unwrap();
    body.map_or_else(|| Call::query(method.clone(), Vec::new()), |body| Call::procedure(method.clone(), body))
}

/// The account's PDS does what it is asked in its name.
async fn works(app: &App, account: &Account) {
    let did = did(account);
    let session = app.oauth.call(&did, &call("com.atproto.server.getSession", None)).await.unwrap();
    assert_eq!(session.status, 200, "{session:?}");
    let session: Value = serde_json::from_slice(&session.body).unwrap();
    assert_eq!(session["did"], account.did);
    let record = json!({ "$type": EVENT, "name": "A walk", "createdAt": "2031-03-01T12:00:00.000Z" });
    let body = json!({ "repo": account.did, "collection": EVENT, "record": record });
    let made = app.oauth.call(&did, &call("com.atproto.repo.createRecord", Some(&body))).await.unwrap();
    assert_eq!(made.status, 200, "{made:?}");
    // What was not asked for is not allowed.
    let body = json!({ "repo": account.did, "collection": "app.bsky.feed.post", "record": { "text": "hello" } });
    let refused = app.oauth.call(&did, &call("com.atproto.repo.createRecord", Some(&body))).await.unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
}

/// Every way in: whatever names the account, on both PDSes.
async fn sign_in(stand: &Stand, account: &Account, typed: &str) {
    let mut browser = stand.browser();
    let page = browser.begin(&stand.origin, typed, "").await;
    assert_eq!(page.status, 303, "{page:#?}");
    let back = browser.approve(page.location(), account, None).await;
    assert!(back.starts_with(&format!("{}/oauth/callback?", stand.origin)), "{back}");
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:#?}");
    assert!(page.text.contains(&format!("@{}", account.handle)) && !page.text.contains("did not allow"), "{page:#?}");
    // The gateway knows the browser now, as the account's own.
    let name = if stand.origin.starts_with("https") { "__Host-session" } else { "session" };
    let token = browser.cookie(&stand.origin, name).expect("a session of the gateway");
    let found = session::find(&stand.app, token).await.unwrap().expect("it is open");
    assert_eq!(found.user.did.as_deref(), Some(account.did.as_str()));
    works(&stand.app, account).await;
    assert!(login::abilities(&stand.app, &did(account)).await.unwrap().missing().is_empty());

    // The same answer again, from the same browser.
    let again = browser.open(&back).await;
    assert_eq!((again.status, again.code()), (400, "LOGIN_UNKNOWN"), "{again:#?}");

    stand.app.oauth.refresh(&did(account)).await.unwrap();
    works(&stand.app, account).await;
    assert!(login::disconnect(&stand.app, &did(account)).await.unwrap());
    assert!(!login::disconnect(&stand.app, &did(account)).await.unwrap());
    let error = stand.app.oauth.call(&did(account), &call("com.atproto.server.getSession", None)).await.unwrap_err();
    assert_eq!(error.reason(), "SIGN_IN_AGAIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_every_pds_sign_in_with_a_public_client() {
    let devnet = Devnet::start().await;
    let test = sqlite().await;
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    sign_in(&stand, &ann, &format!(" @{} ", ann.handle.to_uppercase())).await;
    sign_in(&stand, &cid, &cid.handle).await;
    sign_in(&stand, &ann, &ann.did).await;
    sign_in(&stand, &cid, &cid.pds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_every_pds_sign_in_with_a_confidential_client() {
    let devnet = Devnet::start().await;
    let Some(test) = postgres().await else { return };
    let key = gateway::infra::seal::Seal::generate().unwrap();
    let settings = settings(Some(&devnet), &test, &[("GATEWAY_SECRETS__KEYS", &key)]);
    let keys = Keyset::generate().unwrap();
    let stand = Stand::confidential(&devnet, &settings, "gateway.atnet.internal", &keys.to_string()).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    for account in [&ann, &cid] {
        sign_in(&stand, account, &account.handle).await;
    }

    // A session keeps the key that it began with; a new one begins with the new one.
    let mut browser = stand.browser();
    let page = browser.begin(&stand.origin, &ann.handle, "").await;
    let back = browser.approve(page.location(), &ann, None).await;
    assert_eq!(browser.open(&back).await.status, 200);
    let newer = Keyset::generate().unwrap();
    let both = json!({ "keys": [newer["keys"][0], keys["keys"][0]] });
    let next = Stand::confidential(&devnet, &settings, "gateway.atnet.internal", &both.to_string()).await;
    next.app.oauth.refresh(&did(&ann)).await.unwrap();
    works(&next.app, &ann).await;
    sign_in(&next, &cid, &cid.handle).await;
    // Where its key is gone, it is over, and is known to be.
    let last = Stand::confidential(&devnet, &settings, "gateway.atnet.internal", &newer.to_string()).await;
    let error = last.app.oauth.refresh(&did(&ann)).await.unwrap_err();
    assert_eq!(error.reason(), "SIGN_IN_AGAIN");
    test.discard().await;
}
