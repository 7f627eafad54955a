//! The cookie of a session: the one place that writes it and reads it.
//!
//! It is `__Host-session`: HttpOnly, Secure, SameSite=Lax, for the whole of this host and no other, which browsers hold its
//! name to. Where the gateway has no public URL people sign in at a loopback address over plain http only, and not every
//! browser keeps such a cookie there: then it is called `session` and is not Secure. A gateway takes the one of the two that
//! it would set.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{
    app::App,
    domain::session::NewSession,
    error::{Error, Result},
};

/// Value of `Set-Cookie` that gives a browser a session.
pub fn issue(app: &App, session: &NewSession) -> Result<HeaderValue> {
    // The session ends earlier when it is not used; the browser need not know.
    value(app, &session.token, app.config.session.longest().as_secs())
}

/// Value of `Set-Cookie` that takes it away.
pub fn withdraw(app: &App) -> Result<HeaderValue> {
    value(app, "", 0)
}

/// The token of the request's cookie. Whether it counts is a matter of where the request comes from: only `Origins::vouches` in
/// `src/api/graphql/transport/origin.rs` says so.
pub fn shown<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = name(app);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut tokens = pairs.filter(|(key, _)| *key == name).map(|(_, token)| token);
    // Two of one name cannot both be ours.
    let (Some(token), None) = (tokens.next(), tokens.next()) else { return None };
    (!token.is_empty()).then_some(token)
}

fn name(app: &App) -> &'static str {
    if is_secure(app) { "__Host-session" } else { "session" }
}

fn is_secure(app: &App) -> bool {
    app.config.http.public_url.is_some()
}

fn value(app: &App, token: &str, seconds: u64) -> Result<HeaderValue> {
    let (name, secure) = (name(app), if is_secure(app) { "; Secure" } else { "" });
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::try_from(text).map_err(Error::bug)?;
    value.set_sensitive(true);
    Ok(value)
}
