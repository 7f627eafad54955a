//! The page of whoever is signed in: who that is, what their PDS lets us do, and the ways out.
//!
//! Anybody's link may open the page, since it shows its person nothing that others could read. What changes something is a
//! form, and a form counts only with the digest of the session that it was made for, which no other page knows.

use axum::{
    Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::get,
};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    Parameters,
    browser::{self, Place},
    page, tell, words,
};
use crate::{
    api::http::cookie,
    app::App,
    domain::{
        account,
        actor::{self, Actor, Shown},
        login::{self, Abilities, WayBack},
        person::Person,
    },
    error::{Error, Result},
    infra::atproto::syntax::Did,
};

/// Where the page is.
pub(super) const PATH: &str = "/session";

pub(super) fn router() -> Router<App> {
    Router::new().route(PATH, get(show).post(act))
}

/// What the page says.
pub(super) struct Mine<'a> {
    /// Who is signed in: a handle with its sign, or a DID.
    pub(super) who: &'a str,
    /// What the PDS lets us do; `None` where it lets us do nothing until the person signs in again.
    pub(super) abilities: Option<Abilities>,
    /// Where to go on to.
    pub(super) place: Option<&'a str>,
    /// What the forms carry; `None` where the browser has no session, since it is an app that was signed in to.
    pub(super) form: Option<&'a str>,
    /// The account of the network was linked just now.
    pub(super) is_linked: bool,
}

/// Who is signed in with the browser that sends these headers. What is done for them needs more than their cookie, which
/// comes along from every page: a form of ours, or the login that this browser began.
pub(super) async fn actor(app: &App, headers: &HeaderMap) -> Result<Actor> {
    actor::identify(app, Shown { authorization: None, cookie: cookie::shown(app, headers) }, None).await
}

/// Whoever is signed in with the browser that sends these headers, and what the forms of their pages carry.
pub(super) async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Option<(Person, String)>> {
    let Some(token) = cookie::shown(app, headers) else { return Ok(None) };
    Ok(match actor(app, headers).await? {
        Actor::Person(person) => Some((person, form_of(token))),
        _ => None,
    })
}

/// What a form carries that was made for a session.
pub(super) fn form_of(token: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::new().chain_update(b"session form ").chain_update(token).finalize())
}

/// What to call somebody: the handle while it is verified, else the DID.
async fn name_of(app: &App, person: &Person) -> Result<String> {
    let held = account::by_ids(app.db.read(), person.tenant, vec![person.user]).await?;
    let handle = held.get(&person.user).and_then(|account| account.handle()).map(|handle| format!("@{handle}"));
    Ok(handle.unwrap_or_else(|| person.name().to_owned()))
}

/// What to call whoever is signed in with the browser that sends these headers.
pub(super) async fn name_of_signed_in(app: &App, headers: &HeaderMap) -> Result<Option<String>> {
    match signed_in(app, headers).await? {
        Some((person, _)) => name_of(app, &person).await.map(Some),
        None => Ok(None),
    }
}

async fn show(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if let Some(elsewhere) = Place::of(&app, &headers).better(PATH, query.as_deref()) {
        return Redirect::temporary(elsewhere.as_str()).into_response();
    }
    let query = Parameters::of(query.unwrap_or_default().as_bytes());
    let shown = async {
        let Some((person, form)) = signed_in(&app, &headers).await? else { return Ok(page::nobody()) };
        let way_back = WayBack::check(query.get("return_to").unwrap_or_default(), &app.config.oauth.redirects)?;
        let abilities = match person.did.as_deref() {
            Some(did) => login::granted(&app, &Did::parse(did)?).await?,
            None => None,
        };
        let who = name_of(&app, &person).await?;
        let place = way_back.is_somewhere().then(|| way_back.as_str());
        Ok(page::signed_in(&Mine { who: &who, abilities, place, form: Some(&form), is_linked: false }))
    };
    match shown.await {
        Ok(html) => (page::guard(&app), html).into_response(),
        Err(error) => refuse(&app, &error),
    }
}

/// One of the forms, sent.
async fn act(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let sent = match Parameters::sent(body).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    let acted = async {
        let Some((person, form)) = signed_in(&app, &parts.headers).await? else { return Ok(None) };
        let carried = sent.get("form").unwrap_or_default();
        if !browser::is_same_site(&parts.headers) || !bool::from(form.as_bytes().ct_eq(carried.as_bytes())) {
            return Err(Error::invalid("form", "SESSION_FORM", "the form was sent by another page, or is old"));
        }
        match (sent.get("act"), person.session) {
            (Some("sign_out"), Some(id)) => {
                account::sign_out(&app, person.user, Some(id)).await?;
                Ok(Some(cookie::withdraw(&app)?))
            }
            (Some("disconnect"), _) => {
                let app = app.of(person.tenant);
                account::disconnect(&app, &Actor::Person(person)).await?;
                Ok(None)
            }
            _ => Err(Error::invalid("act", "SESSION_FORM", "the form is none of ours")),
        }
    };
    match acted.await {
        Ok(cookie) => {
            let cookie = AppendHeaders(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
            let to = [(header::LOCATION, HeaderValue::from_static(PATH))];
            (StatusCode::SEE_OTHER, page::guard(&app), cookie, to).into_response()
        }
        Err(error) => refuse(&app, &error),
    }
}

fn refuse(app: &App, error: &Error) -> Response {
    tell(error);
    let said = words::of(error);
    (said.status, page::guard(app), page::unchanged(&said, None)).into_response()
}
