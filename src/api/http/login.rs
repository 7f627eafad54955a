//! The pages where people sign in. They need no script, load nothing from elsewhere, and say in words what went wrong.
//!
//! A login belongs to one browser: the page sets a cookie that nobody else knows, the form carries a digest of it, and
//! whoever comes back from an authorization server must show it. So nobody can be made to sign in as somebody else.

mod browser;
mod page;
mod person;
mod words;

use axum::{
    Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::get,
};
use tracing::warn;
use url::form_urlencoded;

use self::{
    browser::{Browser, Place},
    person::Mine,
};
use super::{cookie, trace::traced};
use crate::{
    app::App,
    domain::login::{self, SignedIn, WayBack},
    error::Error,
    infra::atproto::oauth::{Answered, CALLBACK_PATH, Verdict},
};

const PATH: &str = "/login";
const STYLE_PATH: &str = "/login/style.css";
const ICON_PATH: &str = "/login/icon.svg";
/// Longest form.
const MAX_FORM: usize = 16 * 1024;

pub(super) fn router(app: App) -> Router {
    Router::new()
        .route(PATH, get(ask).post(begin))
        .route(CALLBACK_PATH, get(complete))
        .route(STYLE_PATH, get(async || file("text/css; charset=utf-8", include_str!("login/style.css"))))
        .route(ICON_PATH, get(async || file("image/svg+xml", include_str!("graphiql/favicon.svg"))))
        .merge(person::router())
        .route_layer(middleware::from_fn(traced))
        .with_state(app)
}

/// The parameters of a query or a form; of those that come twice none counts.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// The form.
async fn ask(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let place = Place::of(&app, &headers);
    if let Some(elsewhere) = place.better(PATH, query.as_deref()) {
        // Cookies of localhost are not those of 127.0.0.1, where people come back to.
        return Redirect::temporary(elsewhere.as_str()).into_response();
    }
    let query = Parameters::of(query.unwrap_or_default().as_bytes());
    let typed = query.get("identifier").unwrap_or_default();
    let way_back = query.get("return_to").unwrap_or_default();
    // A wrong place is told at once, not after the way through somebody's PDS.
    let problem = WayBack::check(way_back, &app.config.oauth.redirects).err();
    let way_back = if problem.is_some() { "" } else { way_back };
    form(&app, &headers, &place, &Filled { typed, way_back, problem: problem.as_ref() }).await
}

/// The form, sent.
async fn begin(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let place = Place::of(&app, &parts.headers);
    let Ok(body) = axum::body::to_bytes(body, MAX_FORM).await else {
        return page::refused(&words::TOO_LARGE);
    };
    let sent = Parameters::of(&body);
    let (typed, way_back) = (sent.get("identifier").unwrap_or_default(), sent.get("return_to").unwrap_or_default());
    let browser = Browser::of(&parts.headers, &place);
    let is_ours = browser::is_same_site(&parts.headers)
        && browser.as_ref().is_some_and(|browser| browser.has_form(sent.get("form").unwrap_or_default()));
    let Some(browser) = browser.filter(|_| is_ours) else {
        let why = "the form was sent by another page, or the browser keeps no cookies";
        let error = Error::invalid("form", "LOGIN_FORM", why);
        return form(&app, &parts.headers, &place, &Filled { typed, way_back: "", problem: Some(&error) }).await;
    };
    let begun = async {
        let way_back = &WayBack::check(way_back, &app.config.oauth.redirects)?;
        let wanted = login::Wanted { typed, origin: place.origin()?, browser: browser.secret(), way_back };
        login::begin(&app, &wanted).await
    };
    match begun.await {
        Ok(url) => {
            (page::guard(&app), [(header::LOCATION, location(url.as_str()))], StatusCode::SEE_OTHER).into_response()
        }
        Err(error) => form(&app, &parts.headers, &place, &Filled { typed, way_back, problem: Some(&error) }).await,
    }
}

/// Whoever comes back from an authorization server.
async fn complete(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let place = Place::of(&app, &headers);
    let query = Parameters::of(query.unwrap_or_default().as_bytes());
    let verdict = match (query.get("code"), query.get("error")) {
        (Some(code), None) => Verdict::Code(code),
        (_, error) => Verdict::Error(error.unwrap_or("neither a code nor an error")),
    };
    let browser = Browser::of(&headers, &place);
    let answered = Answered {
        state: query.get("state").unwrap_or_default(),
        issuer: query.get("iss"),
        verdict,
        browser: browser.as_ref().map(Browser::secret).unwrap_or_default(),
    };
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    match login::complete(&app, &answered, agent).await {
        Ok(signed_in) => welcome(&app, &signed_in),
        Err(error) => {
            let said = words::of(&error);
            tell(&error);
            let still = person::signed_in(&app, &headers).await.ok().flatten().is_some();
            let html = if still { page::unchanged(&said) } else { page::failed(&said) };
            (said.status, page::guard(&app), html).into_response()
        }
    }
}

/// Gives the browser its session, and sends the person on, unless there is something to say.
fn welcome(app: &App, signed_in: &SignedIn) -> Response {
    let cookie = match cookie::issue(app, &signed_in.session) {
        Ok(cookie) => AppendHeaders([(header::SET_COOKIE, cookie)]),
        Err(error) => {
            tell(&error);
            return page::refused(&words::of(&error));
        }
    };
    if signed_in.way_back.is_somewhere() && signed_in.abilities.missing().is_empty() {
        let to = [(header::LOCATION, location(signed_in.way_back.as_str()))];
        return (StatusCode::SEE_OTHER, page::guard(app), cookie, to).into_response();
    }
    let who = signed_in.handle.as_ref().map_or_else(|| signed_in.did.to_string(), |handle| format!("@{handle}"));
    let form = person::form_of(&signed_in.session.token);
    let (abilities, way_back) = (Some(signed_in.abilities), &signed_in.way_back);
    let html = page::signed_in(&Mine { who: &who, abilities, way_back, form: &form });
    (page::guard(app), cookie, html).into_response()
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, text)
}

/// What a form holds already.
struct Filled<'a> {
    typed: &'a str,
    way_back: &'a str,
    problem: Option<&'a Error>,
}

/// The form with what was typed, and what was wrong with it. Sets the cookie where there is none.
async fn form(app: &App, headers: &HeaderMap, place: &Place, filled: &Filled<'_>) -> Response {
    let browser = match Browser::of(headers, place).map_or_else(Browser::new, Ok) {
        Ok(browser) => browser,
        Err(error) => return page::refused(&words::of(&error)),
    };
    let said = filled.problem.map(|error| {
        tell(error);
        words::of(error)
    });
    let status = said.as_ref().map_or(StatusCode::OK, |said| said.status);
    let cookie = AppendHeaders([(header::SET_COOKIE, browser.cookie(place))]);
    // Who cannot be looked up can sign in all the same.
    let who = person::name_of_signed_in(app, headers).await.ok().flatten();
    let html = page::form(&browser.form(), filled.typed, filled.way_back, said.as_ref(), who.as_deref());
    (status, page::guard(app), cookie, html).into_response()
}

/// What only an operator can mend is logged; the rest is between the person and their PDS.
fn tell(error: &Error) {
    if !matches!(error, Error::Invalid { .. } | Error::RateLimited { .. }) {
        warn!(error = error.chain(), "a login failed");
    }
}

/// A URL as a header. What was checked is plain ASCII.
fn location(url: &str) -> HeaderValue {
    HeaderValue::from_str(url).unwrap_or(HeaderValue::from_static("/"))
}
