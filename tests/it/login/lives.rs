//! What happens to accounts of real servers while they are signed in: tokens expire, names change, accounts go.

use chrono::TimeDelta;
use entities::user;
use gateway::{
    app::App,
    domain::login,
    error::Error,
    infra::atproto::{
        oauth::Call,
        syntax::{Did, Nsid},
    },
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::{
    browser::Page,
    renewal::until,
    stand::{Stand, Time, open_with, settings},
};
use crate::support::{
    database::sqlite,
    devnet::{Account, Devnet, EVENT},
};

fn did(account: &Account) -> Did {
    Did::parse(&account.did).unwrap()
}

async fn sign_in(stand: &Stand, account: &Account, typed: &str, scope: Option<&str>) -> Page {
    let mut browser = stand.browser();
    let page = browser.begin(&stand.origin, typed, "").await;
    assert_eq!(page.status, 303, "{page:#?}");
    let back = browser.approve(page.location(), account, scope).await;
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:#?}");
    page
}

/// What the PDS says to a request of the account: its status, and the DID or the error.
async fn who(app: &App, account: &Account) -> Result<(u16, Value), Error> {
    let call = Call::query(Nsid::parse("com.atproto.server.getSession").unwrap(), Vec::new());
    let answer = app.oauth.call(&did(account), &call).await?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    Ok((answer.status, body.get("did").or(body.get("error")).cloned().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_expired_is_renewed_whoever_notices() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let time = Time::default();
    let stand = Stand::of(open_with(&settings(Some(&devnet), &test, &[]), time.clock()).await).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    for account in [&ann, &cid] {
        sign_in(&stand, account, &account.handle, None).await;
    }
    // A token of these servers lives for an hour. The gateway's clock is behind: it takes the token for good, and the server
    // does not.
    let hour = TimeDelta::hours(1) + TimeDelta::seconds(30);
    devnet.pass_time(hour.num_seconds()).await;
    time.pass(hour - TimeDelta::seconds(120));
    for account in [&ann, &cid] {
        assert_eq!(who(&stand.app, account).await.unwrap(), (200, json!(account.did)));
    }
    // Both clocks see it.
    devnet.pass_time(hour.num_seconds()).await;
    time.pass(hour + TimeDelta::seconds(120));
    for account in [&ann, &cid] {
        assert_eq!(who(&stand.app, account).await.unwrap(), (200, json!(account.did)));
    }
    // Two weeks without a use end a session of a public client, on both sides.
    devnet.pass_time(TimeDelta::days(15).num_seconds()).await;
    time.pass(TimeDelta::days(15));
    for account in [&ann, &cid] {
        assert_eq!(who(&stand.app, account).await.unwrap_err().reason(), "SIGN_IN_AGAIN");
        assert_eq!(stand.app.oauth.scopes(&did(account)).await.unwrap(), None);
        sign_in(&stand, account, &account.handle, None).await;
        assert_eq!(who(&stand.app, account).await.unwrap(), (200, json!(account.did)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_another_name_and_a_pause_and_ends_with_its_account() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    for account in [&ann, &cid] {
        sign_in(&stand, account, &account.handle, None).await;
    }
    for account in [ann, cid] {
        // Another name: the session is the account's, and so is the member.
        let renamed = account.rename("renamed").await;
        assert_eq!(who(&stand.app, &account).await.unwrap(), (200, json!(account.did)));
        stand.app.oauth.refresh(&did(&account)).await.unwrap();
        let mut browser = stand.browser();
        let page = browser.begin(&stand.origin, &account.handle, "").await;
        assert_eq!((page.status, page.code()), (400, "HANDLE_UNKNOWN"), "the name that it had is nobody's");
        let mut named = account.clone();
        named.handle.clone_from(&renamed);
        // The PDS and the directory hear of it one after the other.
        until(async || browser.begin(&stand.origin, &renamed, "").await.status == 303).await;
        let page = sign_in(&stand, &named, &renamed, None).await;
        assert!(page.text.contains(&format!("@{renamed}")), "{page:#?}");

        // While it is deactivated its PDS refuses, and says so; the session waits, and everything is read as before.
        account.deactivate().await;
        let record = json!({ "$type": EVENT, "name": "A walk", "createdAt": "2031-03-01T12:00:00.000Z" });
        let body = json!({ "repo": account.did, "collection": EVENT, "record": record });
        let write = Call::procedure(Nsid::parse("com.atproto.repo.createRecord").unwrap(), &body);
        let refused = stand.app.oauth.call(&did(&account), &write).await.unwrap();
        let why: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!((refused.status, &why["error"]), (401, &json!("AccountDeactivated")));
        stand.app.oauth.refresh(&did(&account)).await.unwrap();
        assert_eq!(stand.browser().open(&format!("{}/schema.graphql", stand.origin)).await.status, 200);
        account.activate().await;
        until(async || who(&stand.app, &account).await.is_ok_and(|said| said.0 == 200)).await;
        assert_eq!(stand.app.oauth.call(&did(&account), &write).await.unwrap().status, 200);

        // Deleted: its PDS knows it no longer, once and for all. The member stays, with what they have here.
        let known = did(&account);
        account.clone().erase().await;
        for _ in 0..2 {
            assert_eq!(who(&stand.app, &account).await.unwrap_err().reason(), "SIGN_IN_AGAIN");
            assert_eq!(stand.app.oauth.scopes(&known).await.unwrap(), None);
        }
        assert_eq!(login::abilities(&stand.app, &known).await.unwrap(), login::Abilities::default());
        let member =
            user::Entity::find().filter(user::Column::Did.eq(known.as_str())).one(test.db.read()).await.unwrap();
        assert!(member.is_some_and(|member| !member.is_shadow_account));
        assert_eq!(stand.browser().open(&format!("{}/schema.graphql", stand.origin)).await.status, 200);
    }
}
