//! The pages where people sign in. They need no script, load nothing from elsewhere, and say in words what went wrong.
//!
//! A login belongs to one browser: the page sets a cookie that nobody else knows, the form carries a digest of it, and
//! whoever comes back from an authorization server must show it. So nobody can be made to sign in as somebody else.

mod browser;
mod page;
mod person;
mod purpose;
mod words;

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
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
    api::body::{self, PATIENCE, Refused},
    app::App,
    domain::login::{self, Arrival, Failed, Intent, SignedIn, WayBack},
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

    /// Those of a form, or what is answered instead.
    async fn sent(body: Body) -> Result<Self, Response> {
        let body = body::read(body, MAX_FORM, PATIENCE).await.map_err(|refused| {
            page::refused(match refused {
                Refused::TooLarge => &words::TOO_LARGE,
                Refused::Late | Refused::Broken => &words::LATE,
            })
        })?;
        Ok(Self::of(&body))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
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
    // What is wrong is told at once, not after the way through somebody's PDS.
    match purpose::read(&app, &headers, &query).await {
        Ok(intent) => form(&app, &headers, &place, &Filled { typed, intent: &intent, problem: None }).await,
        Err(error) if purpose::can_be_left_out(&error) => {
            form(&app, &headers, &place, &Filled { typed, intent: &nothing_else(), problem: Some(&error) }).await
        }
        Err(error) => refuse(&app, &headers, &error, None).await,
    }
}

/// The form, sent.
async fn begin(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let place = Place::of(&app, &parts.headers);
    let sent = match Parameters::sent(body).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    let typed = sent.get("identifier").unwrap_or_default();
    let (intent, problem) = match purpose::read(&app, &parts.headers, &sent).await {
        Ok(intent) => (intent, None),
        Err(error) if purpose::can_be_left_out(&error) => (nothing_else(), Some(error)),
        Err(error) => return refuse(&app, &parts.headers, &error, None).await,
    };
    let browser = Browser::of(&parts.headers, &place);
    let is_ours = browser::is_same_site(&parts.headers)
        && browser.as_ref().is_some_and(|browser| browser.has_form(sent.get("form").unwrap_or_default()));
    let why = "the form was sent by another page, or the browser keeps no cookies";
    let foreign = || Error::invalid("form", "LOGIN_FORM", why);
    let browser = browser.filter(|_| is_ours).ok_or_else(foreign).and_then(|browser| problem.map_or(Ok(browser), Err));
    let browser = match browser {
        Ok(browser) => browser,
        Err(error) => {
            return form(&app, &parts.headers, &place, &Filled { typed, intent: &intent, problem: Some(&error) }).await;
        }
    };
    let begun = async {
        let wanted = login::Wanted { typed, origin: place.origin()?, browser: browser.secret(), intent: &intent };
        login::begin(&app, &wanted).await
    };
    match begun.await {
        Ok(url) => (page::guard(&app), [to(url.as_str())], StatusCode::SEE_OTHER).into_response(),
        Err(error) => {
            form(&app, &parts.headers, &place, &Filled { typed, intent: &intent, problem: Some(&error) }).await
        }
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
    let actor = match person::actor(&app, &headers).await {
        Ok(actor) => actor,
        Err(error) => return refuse(&app, &headers, &error, None).await,
    };
    match login::complete(&app, &answered, login::Browser { agent, actor: &actor }).await {
        Ok(signed_in) => welcome(&app, &signed_in),
        Err(failed) => {
            if let Some(address) = failed.app(&app) {
                return (page::guard(&app), [to(address.as_str())], StatusCode::SEE_OTHER).into_response();
            }
            let Failed { error, intent } = failed;
            refuse(&app, &headers, &error, intent.as_ref()).await
        }
    }
}

/// Gives the browser its session, and sends the person on, unless there is something to say.
fn welcome(app: &App, signed_in: &SignedIn) -> Response {
    let (cookie, place, form, is_linked) = match &signed_in.arrival {
        Arrival::App(address) => (None, Some(address.as_str()), None, false),
        Arrival::Browser { session, way_back, is_linked } => {
            let cookie = match cookie::issue(app, session) {
                Ok(cookie) => (header::SET_COOKIE, cookie),
                Err(error) => {
                    tell(&error);
                    return page::refused(&words::of(&error));
                }
            };
            let place = way_back.is_somewhere().then(|| way_back.as_str());
            (Some(cookie), place, Some(person::form_of(&session.token)), *is_linked)
        }
    };
    let cookie = AppendHeaders(cookie);
    if let Some(place) = place
        && signed_in.abilities.missing().is_empty()
    {
        return (StatusCode::SEE_OTHER, page::guard(app), cookie, [to(place)]).into_response();
    }
    let who = signed_in.handle.as_ref().map_or_else(|| signed_in.did.to_string(), |handle| format!("@{handle}"));
    let (abilities, form) = (Some(signed_in.abilities), form.as_deref());
    let html = page::signed_in(&Mine { who: &who, abilities, place, form, is_linked });
    (page::guard(app), cookie, html).into_response()
}

/// A page that says what went wrong, with the way to begin the same again.
async fn refuse(app: &App, headers: &HeaderMap, error: &Error, intent: Option<&Intent>) -> Response {
    tell(error);
    let said = words::of(error);
    let still = person::signed_in(app, headers).await.ok().flatten().is_some();
    let html = if still { page::unchanged(&said, intent) } else { page::failed(&said, intent) };
    (said.status, page::guard(app), html).into_response()
}

fn nothing_else() -> Intent {
    Intent::Browse(WayBack::none())
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
    intent: &'a Intent,
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
    let html = page::form(&browser.form(), filled.typed, filled.intent, said.as_ref(), who.as_deref());
    (status, page::guard(app), cookie, html).into_response()
}

/// What only an operator can mend is logged; the rest is between the person and their PDS.
fn tell(error: &Error) {
    let is_between_them = matches!(
        error,
        Error::Invalid { .. } | Error::RateLimited { .. } | Error::Unauthenticated { .. } | Error::Forbidden { .. }
    );
    if !is_between_them {
        warn!(error = error.chain(), "a login failed");
    }
}

/// Where a browser is sent. What was checked is plain ASCII.
fn to(url: &str) -> (HeaderName, HeaderValue) {
    (header::LOCATION, HeaderValue::from_str(url).unwrap_or(HeaderValue::from_static("/")))
}
