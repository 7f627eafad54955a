//! People who sign in with Chromium, on the real pages of the gateway and of their PDSes (`tests/browser`).

use gateway::{
    domain::account,
    infra::atproto::{oauth::Keyset, syntax::Did},
    telemetry,
};
use serde_json::json;

use super::stand::{Stand, settings};
use crate::support::{database::sqlite, devnet::Devnet, node::Packages};

/// What the README shows.
const PICTURE: &str = ".github/login.png";

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_and_out_with_a_browser() {
    let metrics = telemetry::metrics().unwrap();
    let (packages, devnet) = (Packages::installed("tests/browser").await, Devnet::start().await);
    let (first, second) = (sqlite().await, sqlite().await);
    let public = Stand::public(&settings(Some(&devnet), &first, &[])).await;
    let (name, keys) = ("gateway.atnet.internal", Keyset::generate().unwrap().to_string());
    let confidential = Stand::confidential(&devnet, &settings(Some(&devnet), &second, &[]), name, &keys).await;
    let people = [devnet.account("ada", "pds1").await, devnet.account("cid", "pds2").await];
    let pictures = tempfile::tempdir().unwrap();
    let plan = json!({
        "gateways": [
            { "origin": public.origin },
            { "origin": confidential.origin, "address": confidential.address.trim_start_matches("http://") },
        ],
        "people": people.each_ref().map(|person| json!({ "handle": person.handle, "password": person.password() })),
        "pictures": pictures.path(),
    });
    packages.run("node", &["sign-in.mjs", &plan.to_string()], &[]).await;

    for stand in [&public, &confidential] {
        for person in &people {
            let known =
                account::by_dids(stand.app.db.read(), stand.app.tenant, vec![person.did.clone()]).await.unwrap();
            let user = &known[&person.did].account.as_ref().expect("a member of the gateway").user;
            assert!(!user.is_shadow_account);
            let open = gateway::domain::session::list(&stand.app, user.id).await.unwrap();
            assert!(open.is_empty(), "signed out");
            let scopes = stand.app.oauth.scopes(&Did::parse(&person.did).unwrap()).await.unwrap();
            assert!(scopes.is_none(), "nothing may be done for who is gone");
        }
    }
    // Each of the four has mistyped the handle, declined, come in, and loaded the last page again.
    let counted = metrics.render();
    for (step, outcome, times) in [
        ("begun", "success", 8),
        ("begun", "refused", 4),
        ("begun", "upstream", 0),
        ("finished", "success", 4),
        ("finished", "declined", 4),
        ("finished", "refused", 4),
        ("finished", "failure", 0),
    ] {
        let line = format!("gateway_sign_ins_total{{step=\"{step}\",outcome=\"{outcome}\"}} {times}");
        assert!(counted.lines().any(|counted| counted == line), "{line}\n{counted}");
    }
    let taken = std::fs::read(pictures.path().join("login.png")).unwrap();
    let shown = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    #[expect(clippy::disallowed_methods, reason = "as the other documents that tests write")]
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(shown, taken).unwrap();
    } else {
        assert!(shown.exists(), "run this with UPDATE_DOCS=1 to write {PICTURE}");
    }
    first.discard().await;
    second.discard().await;
}
