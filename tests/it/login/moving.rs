//! Accounts that move while they are signed in: a session is renewed only where the account's own document leads.

use chrono::TimeDelta;
use gateway::{
    app::App,
    error::Error,
    infra::atproto::{
        oauth::Call,
        syntax::{Did, Nsid},
    },
};
use serde_json::json;

use super::{
    hostile::sign_in,
    liar::{Liar, Lie, Plc, document},
    renewal::until,
    stand::{Time, open, open_with, settings},
};
use crate::support::database::{TestDb, sqlite};

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const CALL: &str = "/xrpc/org.example.ask";

fn on(test: &TestDb, plc: &Plc) -> Vec<(String, String)> {
    settings(None, test, &[("GATEWAY_NETWORK__PLC_URL", &plc.url)])
}

fn did(liar: &Liar) -> Did {
    Did::parse(&liar.did).unwrap()
}

async fn ask(app: &App, did: &Did) -> Result<u16, Error> {
    let call = Call::query(Nsid::parse("org.example.ask").unwrap(), Vec::new());
    Ok(app.oauth.call(did, &call).await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_to_another_server_takes_no_session_along() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&on(&test, &plc)).await;
    let (there, elsewhere) = (Liar::start(&plc).await, Liar::start(&plc).await);
    for moved in [true, false] {
        there.documented(document(&there.did, &there.origin));
        sign_in(&app, &there, &there.did).await.unwrap();
        let (shown, given_back) = (there.asked("/token").len(), there.asked("/revoke").len());
        if moved {
            there.documented(document(&there.did, &elsewhere.origin));
        } else {
            there.vanish();
        }
        assert_eq!(app.oauth.refresh(&did(&there)).await.unwrap_err().reason(), "SIGN_IN_AGAIN");
        assert_eq!(app.oauth.scopes(&did(&there)).await.unwrap(), None);
        assert_eq!(there.asked("/token").len(), shown, "nothing was shown to the server that it was at");
        until(async || there.asked("/revoke").len() > given_back).await;
        assert!(elsewhere.asked("/token").is_empty(), "nor to the one that it is at");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_within_its_server_is_asked_where_it_is() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&on(&test, &plc)).await;
    let (server, beside) = (Liar::start(&plc).await, Liar::start(&plc).await);
    sign_in(&app, &server, &server.did).await.unwrap();
    beside.lie(RESOURCE, Lie::Field("authorization_servers", Some(json!([server.origin]))));
    server.documented(document(&server.did, &beside.origin));
    assert_eq!(ask(&app, &did(&server)).await.unwrap(), 200);
    assert_eq!((server.asked(CALL).len(), beside.asked(CALL).len()), (1, 0), "until it is renewed, where it was");
    app.oauth.refresh(&did(&server)).await.unwrap();
    assert_eq!(ask(&app, &did(&server)).await.unwrap(), 200);
    assert_eq!((server.asked(CALL).len(), beside.asked(CALL).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_away_keeps_nobody_from_renewing_for_a_day() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let time = Time::default();
    let app = open_with(&on(&test, &plc), time.clock()).await;
    let (liar, other) = (Liar::start(&plc).await, Liar::start(&plc).await);
    sign_in(&app, &liar, &liar.did).await.unwrap();
    let (address, documents) = (plc.url.trim_start_matches("http://").to_owned(), plc.documents.clone());
    drop(plc);
    app.oauth.refresh(&did(&liar)).await.unwrap();
    time.pass(TimeDelta::hours(23));
    app.oauth.refresh(&did(&liar)).await.unwrap();
    // What was said once is not believed for ever, though it was renewed meanwhile. The session waits.
    time.pass(TimeDelta::hours(2));
    let error = app.oauth.refresh(&did(&liar)).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { service: "plc", .. } | Error::RateLimited { .. }), "{}", error.chain());
    assert!(app.oauth.scopes(&did(&liar)).await.unwrap().is_some());
    let _plc = Plc::at(&address, documents).await;
    until(async || app.oauth.refresh(&did(&liar)).await.is_ok()).await;
    // A PDS that does not say who speaks for it is as one that is away.
    liar.lie(RESOURCE, Lie::Status(500));
    app.oauth.refresh(&did(&liar)).await.unwrap();
    time.pass(TimeDelta::hours(25));
    let error = app.oauth.refresh(&did(&liar)).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { service: "oauth", .. }), "{}", error.chain());
    // One that says that somebody else does is believed.
    liar.repent();
    liar.lie(RESOURCE, Lie::Field("authorization_servers", Some(json!([other.origin]))));
    assert_eq!(app.oauth.refresh(&did(&liar)).await.unwrap_err().reason(), "SIGN_IN_AGAIN");
}
