//! A person at a browser: follows no redirect by itself, keeps cookies by host, and knows the pages of a PDS.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use reqwest::{Client, Method, header::HeaderMap, redirect::Policy};
use serde_json::{Value, json};
use url::Url;

use crate::support::devnet::{Account, REQUEST};

/// Where the pages of a PDS send what a person decides.
const API: &str = "/@atproto/oauth-provider/~api";

static HTTP: LazyLock<Client> = LazyLock::new(|| {
    // Whoever comes first may have set it.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().timeout(REQUEST).tls_certs_only([]).no_proxy().redirect(Policy::none()).build().unwrap()
});

/// One browser.
#[derive(Debug, Default)]
pub(super) struct Browser {
    jars: HashMap<String, BTreeMap<String, String>>,
    /// Hosts that are not where their names say.
    elsewhere: HashMap<String, String>,
}

/// What a server sent.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Page {
    /// Where it sends the browser.
    pub(super) fn location(&self) -> &str {
        let location = self.headers.get("location").unwrap_or_else(|| panic!("a redirect, not {self:#?}"));
        location.to_str().unwrap()
    }

    /// The value of a hidden field of its form.
    pub(super) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("no field {name} in {self:#?}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Every hidden field of its form, as a browser sends it.
    pub(super) fn hiddens(&self) -> Vec<(String, String)> {
        let fields = self.text.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            (name.to_owned(), plain(rest.split('"').next().unwrap()))
        });
        fields.collect()
    }

    /// Where a link of these words leads.
    pub(super) fn link(&self, words: &str) -> String {
        let (before, _) =
            self.text.split_once(&format!("\">{words}</a>")).unwrap_or_else(|| panic!("no {words} in {self:#?}"));
        plain(before.rsplit_once("href=\"").unwrap().1)
    }

    /// The code that it tells, in brackets.
    pub(super) fn code(&self) -> &str {
        let (_, rest) = self.text.split_once("<small>(").unwrap_or_else(|| panic!("no code in {self:#?}"));
        rest.split(')').next().unwrap()
    }
}

/// What HTML says.
fn plain(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

impl Browser {
    /// One that finds `origin` at another address.
    pub(super) fn knowing(origin: &str, address: &str) -> Self {
        Self { elsewhere: [(origin.to_owned(), address.to_owned())].into(), ..Self::default() }
    }

    /// Opens a page, as by a link.
    pub(super) async fn open(&mut self, url: &str) -> Page {
        let headers = [
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-site", "cross-site"),
            ("accept", "text/html"),
        ];
        self.ask(Method::GET, url, &headers, None).await
    }

    /// Sends a form of a page.
    pub(super) async fn send(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")];
        self.ask(Method::POST, url, &headers, Some(body)).await
    }

    /// Makes a request.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Page {
        let url: Url = url.parse().unwrap();
        let origin = url.origin().ascii_serialization();
        let at = match self.elsewhere.get(&origin) {
            Some(address) => url.as_str().replacen(&origin, address, 1),
            None => url.to_string(),
        };
        let jar = self.jars.entry(origin).or_default();
        let mut request = HTTP.request(method, at).header("accept-language", "en");
        if !jar.is_empty() {
            let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            jar.insert(name.to_owned(), value.to_owned());
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Page { status, headers, text: response.text().await.unwrap() }
    }

    /// A cookie of the host of a URL.
    pub(super) fn cookie(&self, url: &str, name: &str) -> Option<&str> {
        let origin = url.parse::<Url>().unwrap().origin().ascii_serialization();
        self.jars.get(&origin)?.get(name).map(String::as_str)
    }

    /// Keeps a cookie, as if it had been here before.
    pub(super) fn hold(&mut self, url: &str, name: &str, value: &str) {
        let origin = url.parse::<Url>().unwrap().origin().ascii_serialization();
        self.jars.entry(origin).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Opens the gateway's form as an app, or a page, does, and sends it with what a person types.
    pub(super) async fn begin_for(&mut self, gateway: &str, asked: &[(&str, &str)], typed: &str) -> Page {
        let asked = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish();
        let page = self.open(&format!("{gateway}/login?{asked}")).await;
        assert_eq!(page.status, 200, "{page:#?}");
        let hidden = page.hiddens();
        let mut fields: Vec<_> = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.push(("identifier", typed));
        self.send(&format!("{gateway}/login"), &fields).await
    }

    /// Comes back from a server that never asks: with a code for the login with this state.
    pub(super) async fn come_back(&mut self, gateway: &str, issuer: &str, state: &str) -> Page {
        let answer = [("state", state), ("iss", issuer), ("code", "a code")];
        let answer = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        self.open(&format!("{gateway}/oauth/callback?{answer}")).await
    }

    /// Opens the gateway's form and sends it with what a person types.
    pub(super) async fn begin(&mut self, gateway: &str, typed: &str, way_back: &str) -> Page {
        let page = self.open(&format!("{gateway}/login")).await;
        assert_eq!(page.status, 200, "{page:#?}");
        let fields = [("identifier", typed), ("return_to", way_back), ("form", &page.hidden("form"))];
        self.send(&format!("{gateway}/login"), &fields).await
    }

    /// Signs in at a PDS and lets the gateway in; returns the URL that the PDS sends the browser back to. `scope`: what is
    /// allowed, instead of all that is asked for.
    pub(super) async fn approve(&mut self, authorize: &str, account: &Account, scope: Option<&str>) -> String {
        let page = self.open(authorize).await;
        assert_eq!(page.status, 200, "{authorize}: {page:#?}");
        let who = json!({
            "locale": "en", "username": account.handle, "password": account.password(), "remember": false,
        });
        let signed_in = self.press(authorize, "/sign-in", &who, None).await;
        let token = signed_in["ephemeralToken"].as_str();
        let mut consent = json!({ "did": account.did });
        if let Some(scope) = scope {
            consent["scope"] = scope.into();
        }
        let answer = self.press(authorize, "/consent", &consent, token).await;
        self.leave(authorize, &answer).await
    }

    /// Does not let the gateway in.
    pub(super) async fn decline(&mut self, authorize: &str) -> String {
        let page = self.open(authorize).await;
        assert_eq!(page.status, 200, "{page:#?}");
        let answer = self.press(authorize, "/reject", &json!({}), None).await;
        self.leave(authorize, &answer).await
    }

    async fn press(&mut self, authorize: &str, button: &str, body: &Value, token: Option<&str>) -> Value {
        let origin = authorize.parse::<Url>().unwrap().origin().ascii_serialization();
        let csrf = self.cookie(authorize, "csrf-token").expect("the page set a token").to_owned();
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("origin", origin.as_str()),
            ("referer", authorize),
            ("sec-fetch-mode", "same-origin"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-dest", "empty"),
            ("x-csrf-token", csrf.as_str()),
        ];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let page = self.ask(Method::POST, &format!("{origin}{API}{button}"), &headers, Some(body.to_string())).await;
        assert_eq!(page.status, 200, "{button}: {page:#?}");
        serde_json::from_str(&page.text).unwrap()
    }

    async fn leave(&mut self, authorize: &str, answer: &Value) -> String {
        let headers = [
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-site", "same-origin"),
            ("referer", authorize),
            ("accept", "text/html"),
        ];
        let page = self.ask(Method::GET, answer["url"].as_str().unwrap(), &headers, None).await;
        assert_eq!(page.status, 303, "{page:#?}");
        page.location().to_owned()
    }
}
