//! What is said to people when a login fails.

use axum::http::StatusCode;

use crate::error::Error;

/// A failure, in words.
pub(super) struct Said {
    pub(super) status: StatusCode,
    /// What happened, and what to do.
    pub(super) text: &'static str,
    /// For whoever is asked for help.
    pub(super) code: &'static str,
}

impl Said {
    /// Whether what was typed is at fault, and typing something else would help.
    pub(super) fn is_about_field(&self) -> bool {
        FIELD.contains(&self.code)
    }
}

const fn said(status: StatusCode, code: &'static str, text: &'static str) -> Said {
    Said { status, text, code }
}

pub(super) const TOO_LARGE: Said =
    said(StatusCode::PAYLOAD_TOO_LARGE, "QUERY_TOO_LARGE", "That is more than anybody would type.");

pub(super) const LATE: Said =
    said(StatusCode::REQUEST_TIMEOUT, "BAD_USER_INPUT", "What your browser sent did not arrive in time. Try again.");

/// The codes of what a person typed.
const FIELD: &[&str] =
    &["LOGIN_IDENTIFIER", "DID_MALFORMED", "DID_UNKNOWN", "HANDLE_UNKNOWN", "HANDLE_UNCONFIRMED", "PDS_UNKNOWN"];

/// By the code of an error: the ones that a person can do something about first.
const WORDS: &[(&str, &str)] = &[
    ("LOGIN_IDENTIFIER", "Enter your handle, such as alice.bsky.social, your DID, or the address of your PDS."),
    ("DID_MALFORMED", "This DID is not well formed. It begins with did:plc: or did:web:."),
    ("DID_UNKNOWN", "No account has this DID. Check that it is complete."),
    ("HANDLE_UNKNOWN", "No account has this handle. Check how it is spelt, and give it with its domain."),
    (
        "HANDLE_UNCONFIRMED",
        "This handle points to an account that does not claim it. If you changed your handle lately, try again in some \
         minutes, or enter your DID.",
    ),
    ("PDS_UNKNOWN", "This account names no server that can be reached."),
    ("LOGIN_FORM", "Your browser did not send back our cookie. Allow cookies for this site and try again."),
    (
        "SESSION_FORM",
        "This page was out of date, so nothing was changed. Open it again and repeat what you wanted to do.",
    ),
    ("LOGIN_RETURN", "The page that sent you here asked us to send you on to a place that we do not know."),
    (
        "LOGIN_ADDRESS",
        "Open this page at http://127.0.0.1: this gateway has no public address, so it serves its own machine.",
    ),
    ("LOGIN_UNKNOWN", "This login is over: it was finished before, or took longer than ten minutes. Start again."),
    ("LOGIN_BROWSER", "This login was begun in another browser. Start again in this one."),
    ("LOGIN_ISSUER", "The answer came from another server than we asked. Nothing was signed in; start again."),
    ("LOGIN_ACCOUNT", "You signed in as somebody else than you entered. Start again, and choose that account there."),
    ("REDIRECT_REFUSED", "The app that sent you here is none that this gateway knows. Nothing was signed in."),
    ("CHALLENGE_INVALID", "The app that sent you here asked in a way that is not safe. Nothing was signed in."),
    ("STATE_TOO_LONG", "The app that sent you here sent too much along. Nothing was signed in."),
    ("UNAUTHENTICATED", "Sign in to the account first that you want to link another one to."),
    (
        "LINK_SESSION",
        "You are not signed in here as you were when you began to link your account. Nothing was linked; sign in and start \
         again.",
    ),
    ("ALREADY_LINKED", "Your account here is linked to another account of the network. Nothing was changed."),
    ("DID_TAKEN", "This account of the network belongs to another member here. Nothing was changed."),
    ("LOGIN_DECLINED", "You did not allow it, so nothing was signed in."),
    ("SIGN_IN_AGAIN", "The key of this gateway was exchanged. Start again."),
];

pub(super) fn of(error: &Error) -> Said {
    let reason = error.reason();
    if let Some((code, text)) = WORDS.iter().find(|(code, _)| *code == reason) {
        let status = match reason {
            "LOGIN_BROWSER" | "LOGIN_FORM" | "SESSION_FORM" | "LINK_SESSION" => StatusCode::FORBIDDEN,
            "UNAUTHENTICATED" => StatusCode::UNAUTHORIZED,
            "ALREADY_LINKED" | "DID_TAKEN" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        return said(status, code, text);
    }
    match error {
        Error::Upstream { service: "pds" | "oauth", .. } => said(
            StatusCode::BAD_GATEWAY,
            reason,
            "Your PDS does not answer, or refuses, or does not answer as the protocol demands. Try again later; if it goes \
             on, ask whoever runs it.",
        ),
        Error::Upstream { .. } => said(
            StatusCode::BAD_GATEWAY,
            reason,
            "We could not find out where your account is: a directory of the network does not answer. Try again later.",
        ),
        Error::RateLimited { .. } => {
            said(StatusCode::TOO_MANY_REQUESTS, reason, "That was too much at once. Wait a minute and try again.")
        }
        Error::Unavailable { .. } => {
            said(StatusCode::SERVICE_UNAVAILABLE, reason, "A part of this gateway is away. Try again in some minutes.")
        }
        Error::Invalid { .. } => said(StatusCode::BAD_REQUEST, reason, "This cannot be used to sign in."),
        _ => {
            said(StatusCode::INTERNAL_SERVER_ERROR, reason, "Something went wrong here. It is logged; try again later.")
        }
    }
}
