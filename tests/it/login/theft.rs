//! What is stolen opens nothing: sessions without the key that seals them, tokens without the key that they are bound to.

use gateway::{
    app::App,
    infra::{
        atproto::{
            oauth::Call,
            syntax::{Did, Nsid},
        },
        kv::{Key, Kind},
        seal::{Seal, SealSettings},
    },
};
use serde_json::{Value, json};

use super::stand::{Stand, open, settings};
use crate::support::{
    database::sqlite,
    devnet::{Account, Devnet, HTTP},
};

const LONG: std::time::Duration = std::time::Duration::from_hours(1);

fn did(account: &Account) -> Did {
    Did::parse(&account.did).unwrap()
}

fn who() -> Call {
    Call::query(Nsid::parse("com.atproto.server.getSession").unwrap(), Vec::new())
}

/// The session of an account as somebody has it who has the store and the key.
async fn read(app: &App, seal: &Seal, account: &Account) -> Value {
    let sealed = app.kv.get(&Key::new(Kind::Bluesky, &account.did)).await.unwrap().unwrap();
    let text = seal.open(&format!("bluesky:session:{}", account.did), &sealed).unwrap().unwrap();
    serde_json::from_slice(&text).unwrap()
}

async fn write(app: &App, seal: &Seal, account: &Account, session: &Value) {
    let sealed = seal.close(&format!("bluesky:session:{}", account.did), session.to_string().as_bytes()).unwrap();
    app.kv.set(&Key::new(Kind::Bluesky, &account.did), &sealed, LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_nothing_without_the_key_of_their_session() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let key = Seal::generate().unwrap();
    let own = settings(Some(&devnet), &test, &[("GATEWAY_SECRETS__KEYS", &key)]);
    let stand = Stand::public(&own).await;
    let seal = Seal::new(SealSettings { keys: vec![key], file: None }).unwrap();
    for pds in ["pds1", "pds2"] {
        let (ann, bob) = (devnet.account("ann", pds).await, devnet.account("bob", pds).await);
        for account in [&ann, &bob] {
            let mut browser = stand.browser();
            let page = browser.begin(&stand.origin, &account.handle, "").await;
            let back = browser.approve(page.location(), account, None).await;
            assert_eq!(browser.open(&back).await.status, 200);
        }
        let (of_ann, of_bob) = (read(&stand.app, &seal, &ann).await, read(&stand.app, &seal, &bob).await);
        assert_ne!(of_ann["proofs"]["key"], of_bob["proofs"]["key"], "each session has a key of its own");

        // Whoever has the token only, and shows it as it is.
        let url = format!("{}/xrpc/com.atproto.server.getSession", ann.pds);
        let token = of_ann["access"].as_str().unwrap();
        for scheme in ["DPoP", "Bearer"] {
            let refused = HTTP.get(&url).header("authorization", format!("{scheme} {token}")).send().await.unwrap();
            assert!((400..=401).contains(&refused.status().as_u16()), "{scheme}: {refused:?}");
        }
        // Whoever has the store, and no key for it.
        let other_key = Seal::generate().unwrap();
        let thief = open(&settings(Some(&devnet), &test, &[("GATEWAY_SECRETS__KEYS", &other_key)])).await;
        assert_eq!(thief.oauth.call(&did(&ann), &who()).await.unwrap_err().reason(), "SIGN_IN_AGAIN");

        // The tokens of one with the key of another: the PDS takes neither the one nor the other.
        let mut swapped = of_ann.clone();
        swapped["proofs"]["key"] = of_bob["proofs"]["key"].clone();
        write(&stand.app, &seal, &ann, &swapped).await;
        for _ in 0..2 {
            let error = stand.app.oauth.call(&did(&ann), &who()).await.unwrap_err();
            assert_eq!(error.reason(), "SIGN_IN_AGAIN", "{}", error.chain());
        }
        // And the one to whom the key belongs is nobody's victim.
        let answer = stand.app.oauth.call(&did(&bob), &who()).await.unwrap();
        assert_eq!(answer.status, 200);
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(shown["did"], json!(bob.did));
    }
}
