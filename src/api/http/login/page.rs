//! The pages. All that comes from outside goes through [`escape`].

use std::fmt::Write as _;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use super::{PATH, STYLE_PATH, words::Said};
use crate::{
    app::App,
    domain::login::{Ability, SignedIn},
};

/// The headers of every page: nothing is loaded from elsewhere, nothing is framed or kept.
pub(super) fn guard(app: &App) -> [(HeaderName, HeaderValue); 6] {
    // Browsers hold forms against this also where they are redirected to, which is any authorization server.
    let policy = if app.outbound.allows_private() {
        "default-src 'none'; style-src 'self'; form-action 'self' https: http:; frame-ancestors 'none'; base-uri 'none'"
    } else {
        "default-src 'none'; style-src 'self'; form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'"
    };
    [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ]
}

/// The form: `form` proves that it was made for this browser.
pub(super) fn form(form: &str, typed: &str, way_back: &str, said: Option<&Said>) -> Html<String> {
    let mut alert = String::new();
    let mut described = "hint";
    if let Some(Said { text, code, .. }) = said {
        described = "problem hint";
        // Writing to a text cannot fail.
        let _ = write!(
            alert,
            "<p id=\"problem\" class=\"problem\" role=\"alert\">{} <small>({})</small></p>",
            escape(text),
            escape(code)
        );
    }
    let invalid = if said.is_some() { " aria-invalid=\"true\"" } else { "" };
    let (typed, way_back, form) = (escape(typed), escape(way_back), escape(form));
    let body = format!(
        "<h1>Sign in</h1>{alert}
<form method=\"post\" action=\"{PATH}\">
<label for=\"identifier\">Your handle</label>
<input id=\"identifier\" name=\"identifier\" type=\"text\" value=\"{typed}\" required autofocus maxlength=\"2048\"
 autocomplete=\"username\" autocapitalize=\"none\" autocorrect=\"off\" spellcheck=\"false\" inputmode=\"url\"
 placeholder=\"alice.bsky.social\" aria-describedby=\"{described}\"{invalid}>
<p id=\"hint\" class=\"hint\">A handle of Bluesky or of any other server of the AT Protocol. A DID or the address of your
server will do, too. You enter your password there, never here.</p>
<input type=\"hidden\" name=\"return_to\" value=\"{way_back}\">
<input type=\"hidden\" name=\"form\" value=\"{form}\">
<button type=\"submit\">Continue</button>
</form>"
    );
    whole("Sign in", &body)
}

/// After a login, when there is something to say or nowhere to go.
pub(super) fn signed_in(signed_in: &SignedIn) -> Html<String> {
    let who = signed_in.handle.as_ref().map_or_else(|| signed_in.did.to_string(), |handle| format!("@{handle}"));
    let mut body = format!("<h1>You are signed in</h1><p>as <strong>{}</strong></p>", escape(&who));
    let missing = signed_in.abilities.missing();
    if !missing.is_empty() {
        body.push_str(
            "<h2>What you did not allow</h2><p>Everything else works. Until you allow it, we cannot:</p><ul>",
        );
        for ability in missing {
            let _ = write!(body, "<li>{}</li>", purpose(ability));
        }
        let _ = write!(body, "</ul><p><a href=\"{PATH}\">Sign in again</a> to allow it.</p>");
    }
    if signed_in.way_back.is_somewhere() {
        let to = escape(signed_in.way_back.as_str());
        let _ = write!(body, "<p><a class=\"button\" href=\"{to}\">Continue</a></p>");
    } else {
        body.push_str("<p>You can close this page.</p>");
    }
    whole("You are signed in", &body)
}

/// After a login that came to nothing.
pub(super) fn failed(said: &Said) -> Html<String> {
    let body = format!(
        "<h1>You are not signed in</h1><p class=\"problem\" role=\"alert\">{} <small>({})</small></p>
<p><a class=\"button\" href=\"{PATH}\">Start again</a></p>",
        escape(said.text),
        escape(said.code)
    );
    whole("You are not signed in", &body)
}

/// A failure before anything else is known.
pub(super) fn refused(status: StatusCode, said: &Said) -> Response {
    (status, failed(said)).into_response()
}

fn purpose(ability: Ability) -> &'static str {
    match ability {
        Ability::WriteEvents => "publish your events in your repository",
        Ability::WriteRsvps => "publish your answers to events in your repository",
        Ability::UploadImages => "upload images of your events",
        Ability::ReadEmail => "read your email address, so that you get no mail from us",
    }
}

fn whole(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"robots\" content=\"noindex\">
<title>{title} · OpenMeet</title>
<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">
</head>
<body><main>{body}</main></body>
</html>
"
    ))
}

/// Text as it stands in HTML, inside and outside of attributes in quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
