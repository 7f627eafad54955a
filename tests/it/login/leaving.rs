//! The page of whoever is signed in: whom its forms obey, and where it leads.

use gateway::domain::{
    account::{self, SignedIn},
    session::{self, Kind},
};
use reqwest::Method;

use super::{
    browser::{Browser, Page},
    stand::{Stand, settings},
};
use crate::support::{database::on_each_database, records::did};

/// Somebody at a browser with a session.
struct Member {
    user: i64,
    token: String,
}

async fn enter(stand: &Stand, number: usize) -> Member {
    let pds = "https://pds.example.com".parse().unwrap();
    let shown = SignedIn { did: did(7, number), handle: None, pds, scopes: vec!["atproto".to_owned()] };
    let user = account::sign_in(&stand.app, &shown).await.unwrap();
    let opened = session::open(&stand.app, user.id, Kind::Cookie, None).await.unwrap();
    Member { user: user.id, token: opened.token }
}

impl Member {
    fn cookie(&self) -> String {
        format!("session={}", self.token)
    }

    async fn is_in(&self, stand: &Stand) -> bool {
        session::find(&stand.app, &self.token).await.unwrap().is_some()
    }

    async fn open(&self, stand: &Stand, query: &str) -> Page {
        let url = format!("{}/session{query}", stand.origin);
        stand.browser().ask(Method::GET, &url, &[("cookie", &self.cookie())], None).await
    }
}

/// Sends a form of the page.
async fn send(stand: &Stand, cookie: &str, site: &str, fields: &[(&str, &str)]) -> Page {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = [("cookie", cookie), ("sec-fetch-site", site), ("content-type", "application/x-www-form-urlencoded")];
    let page = Browser::default().ask(Method::POST, &format!("{}/session", stand.origin), &headers, Some(body)).await;
    assert_guarded(&page);
    page
}

fn assert_guarded(page: &Page) {
    let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'self'; img-src 'self'"));
    assert_eq!((header("x-frame-options"), header("cache-control")), ("DENY".to_owned(), "no-store".to_owned()));
}

#[tokio::test]
async fn only_its_own_page_signs_a_person_out() {
    on_each_database(async |test| {
        let key = gateway::infra::seal::Seal::generate().unwrap();
        let stand = Stand::public(&settings(None, test, &[("GATEWAY_SECRETS__KEYS", &key)])).await;
        let (ann, eve) = (enter(&stand, 1).await, enter(&stand, 2).await);
        let page = ann.open(&stand, "").await;
        assert_eq!(page.status, 200);
        assert_guarded(&page);
        assert!(page.text.contains(&did(7, 1)) && page.text.contains("Not connected"), "{page:#?}");
        assert!(page.text.contains("href=\"/login?link=1\""), "the way to connect is to link the account: {page:#?}");
        let (form, foreign) = (page.hidden("form"), eve.open(&stand, "").await.hidden("form"));
        assert_ne!(form, foreign);
        assert!(!page.text.contains(&ann.token), "the page does not tell what opens");

        let site = "same-origin";
        for (cookie, site, fields, status) in [
            (ann.cookie(), site, vec![("act", "sign_out")], 403),
            (ann.cookie(), site, vec![("act", "sign_out"), ("form", "")], 403),
            (ann.cookie(), site, vec![("act", "sign_out"), ("form", foreign.as_str())], 403),
            (ann.cookie(), "cross-site", vec![("act", "sign_out"), ("form", form.as_str())], 403),
            (ann.cookie(), "same-site", vec![("act", "disconnect"), ("form", form.as_str())], 403),
            (ann.cookie(), site, vec![("act", "something"), ("form", form.as_str())], 403),
            (ann.cookie(), site, vec![("form", form.as_str())], 403),
            (format!("{}; {}", ann.cookie(), eve.cookie()), site, vec![("act", "sign_out"), ("form", &form)], 303),
            ("session=".to_owned(), site, vec![("act", "sign_out"), ("form", form.as_str())], 303),
        ] {
            let page = send(&stand, &cookie, site, &fields).await;
            assert_eq!(page.status, status, "{fields:?} from {site}: {page:#?}");
            if status == 403 {
                assert_eq!(page.code(), "SESSION_FORM");
            }
            assert!(ann.is_in(&stand).await, "{fields:?} from {site}");
        }
        let long = "x".repeat(20_000);
        assert_eq!(send(&stand, &ann.cookie(), site, &[("form", &long)]).await.status, 413);

        // What the account allows is taken back, and the person stays.
        let page = send(&stand, &ann.cookie(), site, &[("act", "disconnect"), ("form", &form)]).await;
        assert_eq!((page.status, page.location()), (303, "/session"), "{page:#?}");
        assert!(ann.is_in(&stand).await);
        let known = account::by_ids(stand.app.db.read(), stand.app.tenant, vec![ann.user]).await.unwrap();
        assert!(!known[&ann.user].user.preferences_bluesky.as_ref().unwrap().connected);

        let page = send(&stand, &ann.cookie(), site, &[("act", "sign_out"), ("form", &form)]).await;
        assert_eq!((page.status, page.location()), (303, "/session"), "{page:#?}");
        assert!(page.headers["set-cookie"].to_str().unwrap().starts_with("session=; Path=/; Max-Age=0"));
        assert!(!ann.is_in(&stand).await && eve.is_in(&stand).await);
        assert!(ann.open(&stand, "").await.text.contains("You are not signed in"));
    })
    .await;
}

#[tokio::test]
async fn it_leads_nowhere_but_to_our_pages_and_configured_origins() {
    on_each_database(async |test| {
        let key = gateway::infra::seal::Seal::generate().unwrap();
        let more = [("GATEWAY_SECRETS__KEYS", key.as_str()), ("GATEWAY_OAUTH__REDIRECTS", "https://openmeet.net")];
        let stand = Stand::public(&settings(None, test, &more)).await;
        let ann = enter(&stand, 1).await;
        for (query, to) in [("/graphiql", "/graphiql"), ("https://openmeet.net/a?b%3Dc", "https://openmeet.net/a?b=c")]
        {
            let page = ann.open(&stand, &format!("?return_to={query}")).await;
            assert!(page.text.contains(&format!("<a class=\"button\" href=\"{to}\">Continue</a>")), "{page:#?}");
        }
        for elsewhere in ["//evil.example", "https://evil.example", "javascript:alert(1)"] {
            let page = ann.open(&stand, &format!("?return_to={elsewhere}")).await;
            assert_eq!((page.status, page.code()), (400, "LOGIN_RETURN"), "{elsewhere}");
            assert!(!page.text.contains("evil") && !page.text.contains("javascript"), "{page:#?}");
        }
    })
    .await;
}
