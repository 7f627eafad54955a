//! Members link an account of the network to their own: by signing in as it, in the browser that they are signed in with.

use entities::{audit_entry, event, sets::AuditAction, user};
use gateway::{
    app::App,
    domain::{
        account,
        ingest::submit,
        login,
        session::{self, Kind},
    },
    infra::atproto::syntax::Did,
};
use reqwest::Method;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use super::{
    browser::{Browser, Page},
    hostile::sign_in,
    liar::{Liar, Plc},
    stand::{Stand, settings},
};
use crate::{
    accounts::claiming::{member, person},
    support::{
        database::{TestDb, databases, sqlite},
        devnet::{Account, Devnet},
        records::{BEGINNING, EVENT, cid_of, commit, tid},
    },
};

const LINK: [(&str, &str); 1] = [("link", "1")];

async fn stand(test: &TestDb, plc: &Plc) -> Stand {
    let key = gateway::infra::seal::Seal::generate().unwrap();
    let more = [("GATEWAY_NETWORK__PLC_URL", plc.url.as_str()), ("GATEWAY_SECRETS__KEYS", &key)];
    Stand::public(&settings(None, test, &more)).await
}

/// A member without a DID, called so, and the browser that they are signed in with.
async fn signed_in(stand: &Stand, name: &str) -> (user::Model, Browser) {
    let made = member(&stand.app).await;
    let named = &user::ActiveModel { id: Set(made.id), display_name: Set(Some(name.to_owned())), ..Default::default() };
    let member = stand.app.db.transact(|tx| async move { Ok(named.clone().update(&*tx).await?) }).await.unwrap();
    let mut browser = stand.browser();
    enter(stand, &mut browser, &member).await;
    (member, browser)
}

/// Gives a browser another session.
async fn enter(stand: &Stand, browser: &mut Browser, member: &user::Model) {
    let opened = session::open(&stand.app, member.id, Kind::Cookie, None).await.unwrap();
    browser.hold(&stand.origin, "session", &opened.token);
}

async fn link(stand: &Stand, browser: &mut Browser, liar: &Liar) -> Page {
    let page = browser.begin_for(&stand.origin, &LINK, &liar.did).await;
    assert_eq!(page.status, 303, "{page:#?}");
    browser.come_back(&stand.origin, &liar.origin, &liar.state()).await
}

async fn find(app: &App, id: i64) -> user::Model {
    user::Entity::find_by_id(id).one(app.db.read()).await.unwrap().unwrap()
}

async fn has_session(app: &App, did: &str) -> bool {
    app.oauth.scopes(&Did::parse(did).unwrap()).await.unwrap().is_some()
}

/// An operation of the page that a browser shows.
async fn ask(stand: &Stand, browser: &mut Browser, document: &str) -> Value {
    let headers = [("content-type", "application/json"), ("sec-fetch-site", "same-origin")];
    let body = json!({ "query": document }).to_string();
    let page = browser.ask(Method::POST, &format!("{}/graphql", stand.origin), &headers, Some(body)).await;
    serde_json::from_str(&page.text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_made_cut_and_made_again() {
    let plc = Plc::start().await;
    for test in databases().await {
        let (stand, liar) = (stand(&test, &plc).await, Liar::start(&plc).await);
        // The account is known from its records already.
        let record = json!({ "$type": EVENT, "createdAt": "2026-01-01T00:00:00Z", "name": "A walk" });
        let cid = cid_of(&record.to_string());
        let line = commit(&liar.did, BEGINNING, &tid(BEGINNING, 1), EVENT, "walk", Some((&cid, &record)));
        submit(&stand.app, &[line]).await.unwrap();
        let (ada, mut browser) = signed_in(&stand, "Ada <3").await;
        let before = browser.cookie(&stand.origin, "session").unwrap().to_owned();

        let page = browser.open(&format!("{}/login?link=1", stand.origin)).await;
        assert!(page.text.contains("<h1>Link your account</h1>") && page.text.contains("Ada &lt;3"), "{page:#?}");
        let page = link(&stand, &mut browser, &liar).await;
        assert_eq!(page.status, 200, "{page:#?}");
        assert!(page.text.contains("<h1>Your account is linked</h1>"), "{page:#?}");
        let linked = find(&stand.app, ada.id).await;
        assert_eq!(linked.did.as_deref(), Some(liar.did.as_str()));
        assert!(linked.preferences_bluesky.unwrap().connected && has_session(&stand.app, &liar.did).await);
        let walk = event::Entity::find().one(test.db.read()).await.unwrap().unwrap();
        assert_eq!(walk.user_id, ada.id, "what the account had is the member's now");
        // The session that was there before opens nothing of it.
        assert_eq!(session::find(&stand.app, &before).await.unwrap(), None);
        let viewer = "{ viewer { user { did } blueskyLink { did connected permissions } } }";
        let shown = ask(&stand, &mut browser, viewer).await;
        assert_eq!(shown["data"]["viewer"]["user"]["did"], liar.did, "{shown}");

        let cut =
            ask(&stand, &mut browser, "mutation { disconnectBluesky { blueskyLink { connected permissions } } }").await;
        let expected = json!({ "connected": false, "permissions": [] });
        assert_eq!(cut["data"]["disconnectBluesky"]["blueskyLink"], expected, "{cut}");
        assert!(!has_session(&stand.app, &liar.did).await);
        let page = browser.begin_for(&stand.origin, &[("link", "1"), ("return_to", "/graphiql")], &liar.did).await;
        assert_eq!(page.status, 303, "{page:#?}");
        let page = browser.come_back(&stand.origin, &liar.origin, &liar.state()).await;
        assert_eq!((page.status, page.location()), (303, "/graphiql"));
        let shown = ask(&stand, &mut browser, viewer).await;
        let permissions = ["WRITE_EVENTS", "WRITE_RSVPS", "UPLOAD_IMAGES", "READ_EMAIL"];
        let expected = json!({ "did": liar.did, "connected": true, "permissions": permissions });
        assert_eq!(shown["data"]["viewer"]["blueskyLink"], expected, "{shown}");
        // Its session is lost: the link stands, and says that nothing can be done by it.
        assert!(login::disconnect(&stand.app, &Did::parse(&liar.did).unwrap()).await.unwrap());
        let shown = ask(&stand, &mut browser, viewer).await;
        let expected = json!({ "did": liar.did, "connected": true, "permissions": [] });
        assert_eq!(shown["data"]["viewer"]["blueskyLink"], expected, "{shown}");
        sign_in(&stand.app, &liar, &liar.did).await.unwrap();
        // Whoever signs in as the account is that member.
        assert!(has_session(&stand.app, &liar.did).await);
        assert_eq!(user::Entity::find().all(test.db.read()).await.unwrap().len(), 1);
        let deeds = audit_entry::Entity::find().all(test.db.read()).await.unwrap();
        let deeds: Vec<_> = deeds.iter().map(|deed| deed.action).collect();
        let expected =
            [AuditAction::Claimed, AuditAction::Linked, AuditAction::Disconnected, AuditAction::Linked].as_slice();
        assert_eq!(deeds, expected);
        drop(stand);
        test.discard().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_account_linked_that_is_not_theirs_to_link() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let stand = stand(&test, &plc).await;
    let (liar, taken, other) = (Liar::start(&plc).await, Liar::start(&plc).await, Liar::start(&plc).await);
    sign_in(&stand.app, &taken, &taken.did).await.unwrap();
    let holder = account::sign_in(&stand.app, &shown(&taken)).await.unwrap();
    let unlinked = async |liar: &Liar| {
        !has_session(&stand.app, &liar.did).await
            && user::Entity::find()
                .all(test.db.read())
                .await
                .unwrap()
                .iter()
                .all(|row| row.did.as_ref() != Some(&liar.did))
    };

    // Nobody is signed in, or no longer.
    let mut nobody = stand.browser();
    let page = nobody.open(&format!("{}/login?link=1", stand.origin)).await;
    assert_eq!((page.status, page.code()), (401, "UNAUTHENTICATED"));
    let (ada, mut browser) = signed_in(&stand, "Ada").await;
    browser.begin_for(&stand.origin, &LINK, &liar.did).await;
    session::revoke_all(&stand.app, ada.id).await.unwrap();
    let page = browser.come_back(&stand.origin, &liar.origin, &liar.state()).await;
    assert_eq!((page.status, page.code()), (403, "LINK_SESSION"));
    assert!(unlinked(&liar).await, "what was handed out is given back");

    // Somebody else is signed in by then, and the same member anew.
    let (eve, _) = signed_in(&stand, "Eve").await;
    for next in [&eve, &ada] {
        enter(&stand, &mut browser, &ada).await;
        browser.begin_for(&stand.origin, &LINK, &liar.did).await;
        enter(&stand, &mut browser, next).await;
        let page = browser.come_back(&stand.origin, &liar.origin, &liar.state()).await;
        assert_eq!(page.code(), "LINK_SESSION");
        assert!(unlinked(&liar).await);
    }

    // The end of it in the browser of somebody else, whose account would be linked to the one who sent it; and its
    // beginning by another page.
    browser.begin_for(&stand.origin, &LINK, &liar.did).await;
    let (_, mut victim) = signed_in(&stand, "Victim").await;
    assert_eq!(victim.open(&format!("{}/login", stand.origin)).await.status, 200);
    assert_eq!(victim.come_back(&stand.origin, &liar.origin, &liar.state()).await.code(), "LOGIN_BROWSER");
    let form = format!("{}/login", stand.origin);
    let hidden = browser.open(&form).await.hidden("form");
    let body = format!("link=1&identifier={}&form={hidden}", liar.did);
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")];
    let page = victim.ask(Method::POST, &form, &headers, Some(body.clone())).await;
    assert_eq!((page.status, page.code()), (403, "LOGIN_FORM"));
    let page = victim.ask(Method::POST, &form, &headers[..1], Some(body)).await;
    assert_eq!((page.status, page.code()), (403, "LOGIN_FORM"), "the form was made for another browser");
    assert!(unlinked(&liar).await);

    // An account of another member, who keeps what was allowed; and a second one of this member, which nobody has.
    let page = link(&stand, &mut browser, &taken).await;
    assert_eq!((page.status, page.code()), (409, "DID_TAKEN"));
    assert!(has_session(&stand.app, &taken.did).await);
    assert_eq!(find(&stand.app, holder.id).await.did.as_deref(), Some(taken.did.as_str()));
    let page = link(&stand, &mut browser, &liar).await;
    assert_eq!(page.status, 200, "{page:#?}");
    let page = link(&stand, &mut browser, &other).await;
    assert_eq!((page.status, page.code()), (409, "ALREADY_LINKED"));
    assert!(unlinked(&other).await && has_session(&stand.app, &liar.did).await);
}

/// Somebody who has shown to be the account of a server.
fn shown(liar: &Liar) -> account::SignedIn {
    let scopes = vec!["atproto".to_owned()];
    account::SignedIn { did: liar.did.clone(), handle: None, pds: liar.origin.parse().unwrap(), scopes }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_real_servers_are_linked_and_let_go() {
    let (devnet, test) = (Devnet::start().await, sqlite().await);
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    let (ada, mut browser) = signed_in(&stand, "Ada").await;
    let link = async |browser: &mut Browser, account: &Account| {
        let page = browser.begin_for(&stand.origin, &LINK, &account.handle).await;
        let back = browser.approve(page.location(), account, None).await;
        browser.open(&back).await
    };
    let page = link(&mut browser, &ann).await;
    assert!(page.text.contains("Your account is linked"), "{page:#?}");
    assert_eq!(link(&mut browser, &cid).await.code(), "ALREADY_LINKED");
    let cut = account::disconnect(&stand.app, &person(&stand.app, ada.id).await).await.unwrap();
    assert!(!cut.connected && !has_session(&stand.app, &ann.did).await);
    let page = link(&mut browser, &ann).await;
    assert!(page.text.contains("Your account is linked"), "{page:#?}");
    let link = find(&stand.app, ada.id).await.preferences_bluesky.unwrap();
    assert!(link.connected && link.did == ann.did && has_session(&stand.app, &ann.did).await);
}
