//! What is refused, what is said then, and what goes on without it.

use gateway::{
    domain::login,
    infra::atproto::{oauth::Keyset, syntax::Did},
};
use reqwest::Method;
use serde_json::Value;

use super::stand::{Stand, settings};
use crate::support::{database::sqlite, devnet::Devnet};

/// What somebody does to an address on its way.
type Mangle = fn(String) -> String;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_belongs_to_one_browser_one_account_and_one_moment() {
    let devnet = Devnet::start().await;
    let test = sqlite().await;
    let more = [("GATEWAY_OAUTH__REDIRECTS", "https://openmeet.net")];
    let stand = Stand::public(&settings(Some(&devnet), &test, &more)).await;
    let (ann, bob) = (devnet.account("ann", "pds1").await, devnet.account("bob", "pds1").await);
    let (origin, form) = (stand.origin.as_str(), format!("{}/login", stand.origin));
    let none = |account: &str| {
        let did = Did::parse(account).unwrap();
        let oauth = stand.app.oauth.clone();
        async move { oauth.scopes(&did).await.unwrap().is_none() }
    };

    // The answer is stolen, and opened in another browser; after that it is of no use to anybody.
    let mut browser = stand.browser();
    let page = browser.begin(origin, &ann.handle, "").await;
    let back = browser.approve(page.location(), &ann, None).await;
    let mut thief = stand.browser();
    let page = thief.open(&back).await;
    assert_eq!((page.status, page.code()), (403, "LOGIN_BROWSER"));
    assert_eq!(browser.open(&back).await.code(), "LOGIN_UNKNOWN");
    assert!(none(&ann.did).await);

    // A login that somebody else began, with the own cookie: the thief has a browser that was here, too.
    let page = thief.begin(origin, &bob.handle, "").await;
    let back = thief.approve(page.location(), &bob, None).await;
    assert_eq!(browser.open(&back).await.code(), "LOGIN_BROWSER");

    // A code in another login than its own.
    let page = browser.begin(origin, &ann.handle, "").await;
    let first = browser.approve(page.location(), &ann, None).await;
    let page = browser.begin(origin, &ann.handle, "").await;
    let second = browser.approve(page.location(), &ann, None).await;
    let part = |url: &str, name: &str| {
        let url: url::Url = url.parse().unwrap();
        url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned()
    };
    let swapped = second.replace(&part(&second, "code"), &part(&first, "code"));
    let page = browser.open(&swapped).await;
    assert_eq!((page.status, page.code()), (502, "UPSTREAM_UNAVAILABLE"));
    assert!(none(&ann.did).await);

    // Another issuer, none, or two; no code; nothing at all.
    let mangled: [(Mangle, &str); 6] = [
        (|back| back.replace("iss=", "iss=https%3A%2F%2Fevil.example&was="), "LOGIN_ISSUER"),
        (|back| back.replace("iss=", "was="), "LOGIN_ISSUER"),
        (|back| back + "&iss=https%3A%2F%2Fevil.example", "LOGIN_ISSUER"),
        (|back| back.replace("code=", "was="), "UPSTREAM_UNAVAILABLE"),
        (|back| back.replace("state=", "was="), "LOGIN_UNKNOWN"),
        (|back| back.split('?').next().unwrap().to_owned(), "LOGIN_UNKNOWN"),
    ];
    for (mangle, code) in mangled {
        let page = browser.begin(origin, &ann.handle, "").await;
        let back = mangle(browser.approve(page.location(), &ann, None).await);
        assert_eq!(browser.open(&back).await.code(), code, "{back}");
        assert!(none(&ann.did).await);
    }

    // Somebody else signs in than was asked for; and nobody wants to.
    let page = browser.begin(origin, &ann.did, "").await;
    let back = browser.approve(page.location(), &bob, None).await;
    assert_eq!(browser.open(&back).await.code(), "LOGIN_ACCOUNT");
    let page = browser.begin(origin, &ann.handle, "").await;
    let back = browser.decline(page.location()).await;
    assert_eq!(browser.open(&back).await.code(), "LOGIN_DECLINED");
    assert!(none(&ann.did).await && none(&bob.did).await);

    // The form of another page, of another browser, and without a cookie.
    let hidden = browser.open(&form).await.hidden("form");
    let fields = [("identifier", ann.handle.as_str()), ("form", hidden.as_str())];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for (browser, site) in
        [(&mut browser, "cross-site"), (&mut stand.browser(), "same-origin"), (&mut thief, "same-origin")]
    {
        let page = browser.ask(Method::POST, &form, &[kind, ("sec-fetch-site", site)], Some(body.clone())).await;
        assert_eq!((page.status, page.code()), (403, "LOGIN_FORM"), "{site}");
    }

    // What people type and mistype.
    for (typed, code) in [
        ("", "LOGIN_IDENTIFIER"),
        ("nobody.test", "HANDLE_UNKNOWN"),
        ("no such thing!", "LOGIN_IDENTIFIER"),
        ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "DID_UNKNOWN"),
        ("did:plc", "DID_MALFORMED"),
        ("javascript:alert(1)", "LOGIN_IDENTIFIER"),
        ("\"><script>alert(1)</script>", "LOGIN_IDENTIFIER"),
    ] {
        let page = browser.begin(origin, typed, "").await;
        assert_eq!((page.status, page.code()), (400, code), "{typed}: {page:#?}");
        assert!(!page.text.contains("<script"), "{page:#?}");
        assert!(page.text.contains("role=\"alert\"") && page.text.contains("aria-invalid=\"true\""));
    }
    for place in ["https://evil.example", "//evil.example", "/\\evil.example"] {
        let page = browser.open(&format!("{form}?return_to={place}")).await;
        assert_eq!((page.status, page.code(), page.hidden("return_to").as_str()), (400, "LOGIN_RETURN", ""));
        assert_eq!(browser.begin(origin, &ann.handle, place).await.code(), "LOGIN_RETURN");
    }
    for place in ["/graphiql?a=b", "https://openmeet.net/welcome"] {
        let page = browser.begin(origin, &ann.handle, place).await;
        let back = browser.approve(page.location(), &ann, None).await;
        let page = browser.open(&back).await;
        assert_eq!((page.status, page.location()), (303, place));
    }

    // Less is allowed than was asked for.
    let page = browser.begin(origin, &bob.handle, "/graphiql").await;
    let back = browser.approve(page.location(), &bob, Some("atproto blob:image/*")).await;
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{page:#?}");
    let (allowed, missing) = page.text.split_once("What you did not allow").expect("not all is allowed");
    for (words, is_missing) in
        [("publish your events", true), ("publish your answers", true), ("your email", true), ("upload images", false)]
    {
        assert_eq!((missing.contains(words), allowed.contains(words)), (is_missing, !is_missing), "{words}: {page:#?}");
    }
    assert!(page.text.contains("href=\"/graphiql\""), "{page:#?}");
    let abilities = login::abilities(&stand.app, &Did::parse(&bob.did).unwrap()).await.unwrap();
    assert!(abilities.can_upload_images && abilities.missing().len() == 3, "{abilities:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pds_that_is_away_is_told_in_words_and_awaited() {
    let devnet = Devnet::start().await;
    let test = sqlite().await;
    let stand = Stand::public(&settings(Some(&devnet), &test, &[])).await;
    let (ann, cid) = (devnet.account("ann", "pds1").await, devnet.account("cid", "pds2").await);
    let mut browser = stand.browser();
    let begun = browser.begin(&stand.origin, &cid.handle, "").await;
    let back = browser.approve(begun.location(), &cid, None).await;
    devnet.stop_pds("pds2").await;
    let page = browser.open(&back).await;
    assert_eq!((page.status, page.code()), (502, "UPSTREAM_UNAVAILABLE"));
    // By the DID: the DNS of this network asks the PDS for its handles.
    let page = browser.begin(&stand.origin, &cid.did, "").await;
    assert_eq!((page.status, page.code()), (502, "UPSTREAM_UNAVAILABLE"));
    assert!(page.text.contains(&cid.did), "what was typed is still there");
    // Everything else goes on, logins at the other PDS included.
    assert_eq!(browser.open(&format!("{}/schema.graphql", stand.origin)).await.status, 200);
    let page = browser.begin(&stand.origin, &ann.handle, "").await;
    let back = browser.approve(page.location(), &ann, None).await;
    assert_eq!(browser.open(&back).await.status, 200);
    devnet.start_pds("pds2").await;
    let page = loop {
        let page = browser.begin(&stand.origin, &cid.did, "").await;
        if page.status == 303 {
            break page;
        }
        assert_eq!(page.code(), "UPSTREAM_UNAVAILABLE");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let back = browser.approve(page.location(), &cid, None).await;
    assert_eq!(browser.open(&back).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_guarded_and_the_client_is_published() {
    let devnet = Devnet::start().await;
    let test = sqlite().await;
    let settings = settings(Some(&devnet), &test, &[]);
    let public = Stand::public(&settings).await;
    let mut browser = public.browser();
    let page = browser.open(&format!("{}/login?identifier=%22%3E%3Cb%3E", public.origin)).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{page:#?}");
    assert!(page.text.contains("<label for=\"identifier\">") && page.text.contains("<html lang=\"en\">"));
    assert_eq!(page.headers["cache-control"], "no-store");
    let cookie = page.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("login=") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
    assert_eq!(browser.open(&format!("{}/login/style.css", public.origin)).await.status, 200);
    for path in ["/oauth/client-metadata.json", "/oauth/jwks.json"] {
        assert_eq!(browser.open(&format!("{}{path}", public.origin)).await.status, 404, "a public client has none");
    }
    // A browser that says localhost is sent to where its cookies will be; other names are not served.
    let port = public.address.rsplit(':').next().unwrap();
    let named = |host: String| vec![("host".to_owned(), host)];
    for (host, status) in [(format!("localhost:{port}"), 307), (format!("127.0.0.1:{port}"), 200)] {
        let headers = named(host);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let page = browser.ask(Method::GET, &format!("{}/login?identifier=a", public.address), &headers, None).await;
        assert_eq!(page.status, status);
        if status == 307 {
            assert_eq!(page.location(), format!("http://127.0.0.1:{port}/login?identifier=a"));
        }
    }
    let mut browser = public.browser();
    let evil = [("host", "evil.example")];
    let page = browser.ask(Method::GET, &format!("{}/login", public.address), &evil, None).await;
    let fields = [("identifier", "ann.test"), ("form", &page.hidden("form"))];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let page = browser.ask(Method::POST, &format!("{}/login", public.address), &evil, Some(body)).await;
    assert!(["LOGIN_ADDRESS", "HANDLE_UNKNOWN"].contains(&page.code()), "{page:#?}");

    let keys = Keyset::generate().unwrap();
    let named = Stand::confidential(&devnet, &settings, "login.atnet.internal", &keys.to_string()).await;
    let mut browser = named.browser();
    let page = browser.open(&format!("{}/oauth/client-metadata.json", named.origin)).await;
    assert_eq!(page.headers["content-type"], "application/json");
    let metadata: Value = serde_json::from_str(&page.text).unwrap();
    assert_eq!(metadata["client_id"], "https://login.atnet.internal/oauth/client-metadata.json");
    assert_eq!(metadata["scope"], login::EVERY_SCOPE);
    let page = browser.open(metadata["jwks_uri"].as_str().unwrap()).await;
    assert!(page.status == 200 && !page.text.contains("\"d\""), "{page:#?}");
    let page = browser.open(&format!("{}/login", named.origin)).await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-login=") && cookie.contains("; Secure") && cookie.contains("Path=/;"),
        "{cookie}"
    );
}
