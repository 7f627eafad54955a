//! kill -9 between the answer of a server and the store: what was handed out is lost, and the person signs in again, once.

use gateway::{
    error::Error,
    infra::{
        atproto::{
            oauth::Call,
            syntax::{Did, Nsid},
        },
        seal::Seal,
    },
};
use uuid::Uuid;

use super::{
    browser::Browser,
    liar::{Liar, Plc},
    renewal::until,
    stand::{open, settings},
};
use crate::{
    kv::stores::{forget, redis_url},
    support::{
        database::sqlite,
        process::{Program, kill},
        proxy::Proxy,
    },
};

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// Long enough for the way to the store to be cut while a token is handed out.
const SLOW: u64 = 700;
/// So that a token is renewed before it is used: then the sign-in itself, which asks for the address, renews it.
const SHORT: i64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_with_tokens_in_hand_costs_one_sign_in() {
    for token in ["of the sign-in", "of a renewal"] {
        let (test, plc, redis) = (sqlite().await, Plc::start().await, redis_url());
        let (liar, way) = (Liar::start(&plc).await, Proxy::before(&redis).await);
        let did = Did::parse(&liar.did).unwrap();
        let (key, namespace) = (Seal::generate().unwrap(), format!("test-{}", Uuid::now_v7().simple()));
        let program = Program::over(&test.url)
            .with("GATEWAY_NETWORK__PLC_URL", &plc.url)
            .with("GATEWAY_SECRETS__KEYS", &key)
            .with("GATEWAY_KV__NAMESPACE", &namespace);
        let doomed = program.with("REDIS_URL", &way.url());
        let (process, address) = doomed.serve_api().await;
        let origin = format!("http://{address}");
        let mut browser = Browser::default();
        let page = browser.begin(&origin, &liar.did, "").await;
        assert_eq!(page.status, 303, "{page:#?}");
        let is_renewal = token == "of a renewal";
        if is_renewal {
            liar.hands_out(SHORT, SLOW);
        } else {
            // Asked about when the token is there, and before it is kept.
            liar.stalls(Some(RESOURCE));
        }
        let before = liar.asked(RESOURCE).len();
        let (state, login) = (liar.state(), browser.cookie(&origin, "login").unwrap().to_owned());
        let coming = tokio::spawn({
            let (origin, issuer, state) = (origin.clone(), liar.origin.clone(), state.clone());
            async move { browser.come_back(&origin, &issuer, &state).await }
        });
        if is_renewal {
            until(async || liar.asked("/token").len() == 2).await;
            drop(way);
            until(async || liar.handed_out() == 2).await;
        } else {
            until(async || liar.asked(RESOURCE).len() > before).await;
            assert_eq!(liar.handed_out(), 1);
        }
        assert!(kill(process).await, "it was killed in the middle of it");
        assert!(coming.await.is_err(), "nobody was told anything");

        liar.hands_out(600, 0);
        liar.stalls(None);
        let (process, address) = doomed.with("REDIS_URL", &redis).serve_api().await;
        let origin = format!("http://{address}");
        let more = [
            ("GATEWAY_NETWORK__PLC_URL", plc.url.as_str()),
            ("GATEWAY_SECRETS__KEYS", &key),
            ("GATEWAY_KV__NAMESPACE", &namespace),
            ("REDIS_URL", &redis),
        ];
        let other = open(&settings(None, &test, &more)).await;
        let call = Call::query(Nsid::parse("org.example.ask").unwrap(), Vec::new());
        // The tokens that nobody has, and the ones that were spent for them: neither opens anything, and that is said once the
        // lock of the dead has ended. The answer that was on its way is used up.
        for _ in 0..2 {
            assert_eq!(other.oauth.call(&did, &call).await.unwrap_err().reason(), "SIGN_IN_AGAIN", "{token}");
            assert_eq!(other.oauth.scopes(&did).await.unwrap(), None);
        }
        let mut browser = Browser::default();
        browser.hold(&origin, "login", &login);
        let page = browser.come_back(&origin, &liar.origin, &state).await;
        assert_eq!((page.status, page.code()), (400, "LOGIN_UNKNOWN"));
        // Signing in again is all that is needed.
        let page = browser.begin(&origin, &liar.did, "").await;
        assert_eq!(page.status, 303, "{page:#?}");
        let page = browser.come_back(&origin, &liar.origin, &liar.state()).await;
        assert_eq!(page.status, 200, "{page:#?}");
        let answer = other.oauth.call(&did, &call).await;
        assert_eq!(answer.as_ref().map_err(Error::chain).unwrap().status, 200);
        assert!(kill(process).await);
        forget(&namespace).await;
    }
}
