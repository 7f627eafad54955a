//! What accounts allow: asked for finely, coarsely where a server knows no better, and known when it changes.

use gateway::{
    domain::login::{self, Abilities, OLDER_SCOPE, SCOPE},
    infra::atproto::syntax::Did,
};

use super::{
    hostile::sign_in,
    liar::{Liar, Lie, Plc},
    stand::{open, settings},
};
use crate::support::database::sqlite;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_the_older_scopes_only_is_asked_for_those() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&settings(None, &test, &[("GATEWAY_NETWORK__PLC_URL", &plc.url)])).await;
    let asked = |liar: &Liar| -> Vec<String> { liar.asked("/par").iter().map(|form| form["scope"].clone()).collect() };
    let newer = Liar::start(&plc).await;
    newer.grants(SCOPE);
    let signed_in = sign_in(&app, &newer, &newer.did).await.unwrap();
    assert!(signed_in.abilities.missing().is_empty());
    assert_eq!(asked(&newer), [SCOPE]);

    let older = Liar::start(&plc).await;
    older.knows(&["atproto", "transition:generic", "transition:email"]);
    let signed_in = sign_in(&app, &older, &older.did).await.unwrap();
    assert!(signed_in.abilities.missing().is_empty(), "{:?}", signed_in.abilities);
    assert_eq!(asked(&older), [SCOPE, OLDER_SCOPE]);
    // The same login, with the same secrets, and no other than it.
    let forms = older.asked("/par");
    for name in ["state", "code_challenge", "redirect_uri"] {
        assert_eq!(forms[0][name], forms[1][name]);
    }

    // One that knows neither has said its word.
    let oldest = Liar::start(&plc).await;
    oldest.knows(&["atproto"]);
    let error = sign_in(&app, &oldest, &oldest.did).await.unwrap_err();
    assert!(error.chain().contains("invalid_scope"), "{}", error.chain());
    assert_eq!(asked(&oldest), [SCOPE, OLDER_SCOPE]);
    // Another refusal is none of the scopes.
    let strict = Liar::start(&plc).await;
    strict.lie("/par", Lie::Status(400));
    strict.lie("/par", Lie::Field("error", Some("invalid_request".into())));
    sign_in(&app, &strict, &strict.did).await.unwrap_err();
    assert_eq!(asked(&strict), [SCOPE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_allows_is_what_it_allowed_last() {
    let (test, plc) = (sqlite().await, Plc::start().await);
    let app = open(&settings(None, &test, &[("GATEWAY_NETWORK__PLC_URL", &plc.url)])).await;
    let liar = Liar::start(&plc).await;
    let did = Did::parse(&liar.did).unwrap();
    let abilities = async || login::abilities(&app, &did).await.unwrap();
    assert_eq!(abilities().await, Abilities::default());
    sign_in(&app, &liar, &liar.did).await.unwrap();
    assert!(abilities().await.missing().is_empty());
    // The person takes something back at their server, and gives it again: it shows when the session is renewed.
    for scope in ["atproto repo:community.lexicon.calendar.rsvp", "atproto", SCOPE] {
        liar.grants(scope);
        app.oauth.refresh(&did).await.unwrap();
        assert_eq!(abilities().await, Abilities::of(scope), "{scope}");
    }
    // Without a session nothing is allowed; after signing in again what is allowed then.
    assert!(login::disconnect(&app, &did).await.unwrap());
    assert_eq!(abilities().await, Abilities::default());
    liar.grants("atproto blob:image/*");
    sign_in(&app, &liar, &liar.did).await.unwrap();
    assert_eq!(abilities().await, Abilities { can_upload_images: true, ..Abilities::default() });
}
