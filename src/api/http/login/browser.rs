//! The browser in front of which a person sits: where it thinks it is, and the cookie that tells it from all others.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, header};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::{Host, Url};

use crate::{
    app::App,
    error::{Error, Result},
    infra::atproto::oauth::unguessable,
};

/// As long as a login may take, and the page before it may stand open.
const LIFE: u32 = 60 * 60;
/// Characters of 256 bits.
const SECRET: usize = 43;

/// Where the browser reached the gateway.
pub(super) struct Place(Option<Url>);

impl Place {
    /// The configured public URL; without one, what the browser says, which only counts for this machine's own addresses.
    pub(super) fn of(app: &App, headers: &HeaderMap) -> Self {
        if let Some(public) = &app.config.http.public_url {
            return Self(Some(public.clone()));
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Self(host.and_then(|host| Url::parse(&format!("http://{host}")).ok()))
    }

    /// The origin.
    ///
    /// Fails with `LOGIN_ADDRESS` when the browser does not say.
    pub(super) fn origin(&self) -> Result<&Url> {
        self.0.as_ref().ok_or_else(|| Error::invalid("host", "LOGIN_ADDRESS", "the request names no host"))
    }

    /// The same page at 127.0.0.1, for a browser that calls it localhost.
    pub(super) fn better(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let url =
            self.0.as_ref().filter(|url| url.scheme() == "http" && url.host() == Some(Host::Domain("localhost")))?;
        let mut url = url.clone();
        url.set_host(Some("127.0.0.1")).ok()?;
        url.set_path(path);
        url.set_query(query);
        Some(url)
    }

    fn is_secure(&self) -> bool {
        self.0.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// The prefix keeps other hosts of the same domain from setting it; browsers take it over TLS only.
    fn cookie_name(&self) -> &'static str {
        if self.is_secure() { "__Host-login" } else { "login" }
    }
}

/// One browser, known by its cookie.
pub(super) struct Browser(String);

impl Browser {
    /// One that was not here before.
    pub(super) fn new() -> Result<Self> {
        unguessable().map(Self)
    }

    /// The one that shows a cookie of ours.
    pub(super) fn of(headers: &HeaderMap, place: &Place) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut ours = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == place.cookie_name())
            .map(|(_, value)| value);
        let value = ours.next().filter(|value| value.len() == SECRET && value.bytes().all(|b| b.is_ascii_graphic()))?;
        // Two of the same name: somebody else has set one of them.
        ours.next().is_none().then(|| Self(value.to_owned()))
    }

    /// What only this browser knows.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// What a form carries that was made for this browser.
    pub(super) fn form(&self) -> String {
        BASE64URL_NOPAD.encode(&Sha256::new().chain_update(b"login form ").chain_update(&self.0).finalize())
    }

    /// Whether a form was made for this browser.
    pub(super) fn has_form(&self, shown: &str) -> bool {
        self.form().as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// The cookie. It is sent along when people come back from elsewhere, but not when other pages send forms.
    pub(super) fn cookie(&self, place: &Place) -> HeaderValue {
        let secure: Cow<'_, str> = if place.is_secure() { "; Secure".into() } else { "".into() };
        let name = place.cookie_name();
        let text = format!("{name}={}; Path=/; Max-Age={LIFE}; HttpOnly; SameSite=Lax{secure}", self.0);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Whether a request comes from a page of ours, as far as the browser says. Those that say nothing are told by the form.
pub(super) fn is_same_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none")
}
