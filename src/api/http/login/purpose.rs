//! What a login is for, as addresses and forms say it: `return_to` for a page to go on to; `redirect_uri`, `code_challenge`,
//! `code_challenge_method` and `state` for an app, as in OAuth; `link` for an account to be linked.

use axum::http::HeaderMap;

use super::{Parameters, person};
use crate::{
    app::App,
    domain::{
        login::{Intent, Linking, WayBack},
        session::code::Wanted,
    },
    error::{Error, Result},
};

/// What is meant. What an app sends counts before all else: nobody is signed in in a browser where an app asked, but wrongly.
///
/// Errors: `LOGIN_RETURN`; for an app those of [`Wanted::check`]; for a link those of [`Intent::link`].
pub(super) async fn read(app: &App, headers: &HeaderMap, sent: &Parameters) -> Result<Intent> {
    let text = |name: &str| sent.get(name).unwrap_or_default().to_owned();
    if ["redirect_uri", "code_challenge"].iter().any(|name| sent.has(name)) {
        let wanted = Wanted {
            redirect_uri: text("redirect_uri"),
            challenge: text("code_challenge"),
            method: text("code_challenge_method"),
            state: sent.get("state").map(str::to_owned),
        };
        wanted.check(app)?;
        return Ok(Intent::Enter(wanted));
    }
    let way_back = WayBack::check(&text("return_to"), &app.config.oauth.redirects)?;
    if sent.has("link") {
        return Intent::link(app, &person::actor(app, headers).await?, way_back).await;
    }
    Ok(Intent::Browse(way_back))
}

/// The parameters that say it.
pub(super) fn parameters(intent: &Intent) -> Vec<(&'static str, &str)> {
    match intent {
        Intent::Browse(way_back) => vec![("return_to", way_back.as_str())],
        Intent::Link(Linking { way_back, .. }) => vec![("link", "1"), ("return_to", way_back.as_str())],
        Intent::Enter(Wanted { redirect_uri, challenge, method, state }) => {
            let mut parameters = vec![
                ("redirect_uri", redirect_uri.as_str()),
                ("code_challenge", challenge.as_str()),
                ("code_challenge_method", method.as_str()),
            ];
            parameters.extend(state.as_deref().map(|state| ("state", state)));
            parameters
        }
    }
}

/// Whether a form can help that is shown with this error: it is about where to go on to, and not about whom it is for.
pub(super) fn can_be_left_out(error: &Error) -> bool {
    error.reason() == "LOGIN_RETURN"
}
