//! Signing out where one is signed in elsewhere, and signing out for good.

use gateway::infra::atproto::{
    oauth::Call,
    syntax::{Did, Nsid},
};

use super::stand::{Stand, settings};
use crate::support::{
    database::sqlite,
    devnet::{Devnet, HTTP},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_for_good_takes_back_what_was_allowed() {
    let (test, devnet) = (sqlite().await, Devnet::start().await);
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let ann = devnet.account("ann", "pds1").await;
    let did = Did::parse(&ann.did).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let mut browser = stand.browser();
        let page = browser.begin(&stand.origin, &ann.handle, "").await;
        let back = browser.approve(page.location(), &ann, None).await;
        assert_eq!(browser.open(&back).await.status, 200);
        tokens.push(browser.cookie(&stand.origin, "session").unwrap().to_owned());
    }
    let end = async |token: &str| {
        let request = HTTP.post(format!("{}/session/end", stand.origin)).header("cookie", format!("session={token}"));
        request.header("sec-fetch-site", "same-origin").send().await.unwrap().status().as_u16()
    };
    let ask = async || {
        let method = Nsid::parse("com.atproto.server.getSession").unwrap();
        stand.app.oauth.call(&did, &Call::query(method, Vec::new())).await
    };
    for token in &tokens {
        assert_eq!(ask().await.unwrap().status, 200);
        assert_eq!(end(token).await, 204);
    }
    assert_eq!(ask().await.unwrap_err().reason(), "SIGN_IN_AGAIN");
    test.discard().await;
}
