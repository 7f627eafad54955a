//! The pages. All that comes from outside goes through [`escape`].

use std::fmt::Write as _;

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
};

use url::form_urlencoded;

use super::{
    ICON_PATH, PATH, STYLE_PATH,
    person::{Mine, PATH as SESSION_PATH},
    purpose,
    words::Said,
};
use crate::{
    app::App,
    domain::login::{Ability, Intent, Linking},
};

/// What a page may load, and where its forms may lead besides to us.
macro_rules! policy {
    ($elsewhere:literal) => {
        concat!(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'",
            $elsewhere,
            "; frame-ancestors 'none'; base-uri 'none'"
        )
    };
}

/// The headers of every page: nothing is loaded from elsewhere, nothing is framed or kept.
pub(super) fn guard(app: &App) -> [(HeaderName, HeaderValue); 6] {
    // Browsers hold forms against this also where they are redirected to, which is any authorization server.
    guarded(if app.outbound.allows_private() { policy!(" https: http:") } else { policy!(" https:") })
}

fn guarded(policy: &'static str) -> [(HeaderName, HeaderValue); 6] {
    [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ]
}

/// The form: `form` proves that it was made for this browser; `who` is signed in already.
pub(super) fn form(form: &str, typed: &str, intent: &Intent, said: Option<&Said>, who: Option<&str>) -> Html<String> {
    let (mut above, mut beside) = (String::new(), String::new());
    let (mut described, mut invalid) = ("hint", "");
    let heading = match intent {
        Intent::Browse(_) => "Sign in",
        Intent::Enter(_) => "Sign in to the app",
        Intent::Link(_) => "Link your account",
    };
    let mut title = heading.to_owned();
    if let Some(said) = said {
        (described, title) = ("problem hint", format!("Error: {heading}"));
        if said.is_about_field() {
            (beside, invalid) = (problem(said), " aria-invalid=\"true\"");
        } else {
            above = problem(said);
        }
    }
    // Writing to a text cannot fail.
    let _ = match (intent, who) {
        (Intent::Link(Linking { name, .. }), _) => write!(
            above,
            "<p>You are signed in here as <strong>{}</strong>. What you sign in with now will belong to that account, with all \
             that it has.</p>",
            escape(name)
        ),
        (Intent::Browse(_), Some(who)) => write!(
            above,
            "<p>You are signed in as <a href=\"{SESSION_PATH}\">{}</a>. You can sign in with another account here.</p>",
            escape(who)
        ),
        (Intent::Browse(_) | Intent::Enter(_), _) => Ok(()),
    };
    let mut kept = String::new();
    for (name, value) in purpose::parameters(intent) {
        let _ = writeln!(kept, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
    }
    let (typed, form) = (escape(typed), escape(form));
    let body = format!(
        "<h1>{heading}</h1>{above}
<form method=\"post\" action=\"{PATH}\">
<label for=\"identifier\">Your handle</label>
<p id=\"hint\" class=\"hint\">A handle of Bluesky or of any other server of the AT Protocol, such as alice.bsky.social. Your
DID or the address of your server will do, too. You enter your password there, never here.</p>{beside}
<input id=\"identifier\" name=\"identifier\" type=\"text\" value=\"{typed}\" required autofocus maxlength=\"2048\"
 autocomplete=\"username\" autocapitalize=\"none\" autocorrect=\"off\" spellcheck=\"false\" inputmode=\"url\"
 aria-describedby=\"{described}\"{invalid}>
{kept}<input type=\"hidden\" name=\"form\" value=\"{form}\">
<button type=\"submit\">Continue</button>
</form>"
    );
    whole(&title, &body)
}

/// The page of whoever is signed in.
pub(super) fn signed_in(mine: &Mine<'_>) -> Html<String> {
    let title = if mine.is_linked { "Your account is linked" } else { "You are signed in" };
    let mut body = format!("<h1>{title}</h1><p>as <strong>{}</strong></p>", escape(mine.who));
    if let Some(place) = mine.place {
        let to = escape(place);
        let _ = write!(body, "<p><a class=\"button\" href=\"{to}\">Continue</a></p>");
    }
    match mine.abilities {
        Some(abilities) => {
            list(&mut body, "What you allow", "At your server (your PDS) we may:", &abilities.granted());
            let missing = abilities.missing();
            list(
                &mut body,
                "What you did not allow",
                "Everything else works. Until you allow it, we cannot:",
                &missing,
            );
            if !missing.is_empty() {
                let _ = write!(body, "<p><a href=\"{PATH}\">Sign in again</a> to allow it.</p>");
            }
        }
        None => {
            let _ = write!(
                body,
                "<h2>Not connected</h2><p>We may do nothing at your server (your PDS). <a href=\"{PATH}?link=1\">Sign in there</a> to connect your \
                 account.</p>"
            );
        }
    }
    let Some(form) = mine.form.map(escape) else { return whole(title, &body) };
    let _ = write!(
        body,
        "<form method=\"post\" action=\"{SESSION_PATH}\"><input type=\"hidden\" name=\"form\" value=\"{form}\">
<h2>Leave</h2>
<p><button type=\"submit\" name=\"act\" value=\"sign_out\" aria-describedby=\"leaving\">Sign out</button></p>
<p id=\"leaving\">If you are signed in nowhere else, we may then do nothing at your server any more.</p>"
    );
    if mine.abilities.is_some() {
        body.push_str(
            "<p id=\"disconnecting\">Or take back all that you allow, and stay signed in here. Your events and answers stay where they \
             are.</p>
<p><button type=\"submit\" class=\"second\" name=\"act\" value=\"disconnect\" aria-describedby=\"disconnecting\">Disconnect your \
             account</button></p>",
        );
    }
    body.push_str("</form>");
    whole(title, &body)
}

/// The same page where nobody is.
pub(super) fn nobody() -> Html<String> {
    let body = format!(
        "<h1>You are not signed in</h1><p>Nobody is signed in with this browser.</p>
<p><a class=\"button\" href=\"{PATH}\">Sign in</a></p>"
    );
    whole("You are not signed in", &body)
}

/// After a login that came to nothing. What it was for, where that is known, is kept for the next attempt.
pub(super) fn failed(said: &Said, intent: Option<&Intent>) -> Html<String> {
    let (problem, again) = (problem(said), again(intent));
    whole("Error: You are not signed in", &format!("<h1>You are not signed in</h1>{problem}\n<p>{again}</p>"))
}

/// The same where somebody is signed in all the same.
pub(super) fn unchanged(said: &Said, intent: Option<&Intent>) -> Html<String> {
    let problem = problem(said);
    let again = intent.map(|intent| format!("<p>{}</p>", again(Some(intent)))).unwrap_or_default();
    let body = format!(
        "<h1>Nothing has changed</h1>{problem}{again}
<p><a class=\"button\" href=\"{SESSION_PATH}\">See who is signed in</a></p>"
    );
    whole("Error: Nothing has changed", &body)
}

fn again(intent: Option<&Intent>) -> String {
    let parameters = intent.map(purpose::parameters).unwrap_or_default();
    let said = parameters.into_iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("<a class=\"button\" href=\"{PATH}{mark}{}\">Start again</a>", escape(&query))
}

/// A failure before anything else is known.
pub(super) fn refused(said: &Said) -> Response {
    (said.status, guarded(policy!("")), failed(said, None)).into_response()
}

fn problem(said: &Said) -> String {
    let (text, code) = (escape(said.text), escape(said.code));
    format!("<p id=\"problem\" class=\"problem\" role=\"alert\">{text} <small>({code})</small></p>")
}

/// A heading and a list; nothing where the list is empty.
fn list(body: &mut String, heading: &str, lead: &str, abilities: &[Ability]) {
    if abilities.is_empty() {
        return;
    }
    let _ = write!(body, "<h2>{heading}</h2><p>{lead}</p><ul>");
    for ability in abilities {
        let _ = write!(body, "<li>{}</li>", purpose(*ability));
    }
    body.push_str("</ul>");
}

fn purpose(ability: Ability) -> &'static str {
    match ability {
        Ability::WriteEvents => "publish your events in your repository",
        Ability::WriteRsvps => "publish your answers to events in your repository",
        Ability::UploadImages => "upload images of your events",
        Ability::ReadEmail => "know your email address, and write to you",
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
<link rel=\"icon\" href=\"{ICON_PATH}\">
<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">
</head>
<body>
<header>OpenMeet</header>
<main>{body}</main>
</body>
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
