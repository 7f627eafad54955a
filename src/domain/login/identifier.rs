//! Whom a person means by what they typed.

use anyhow::anyhow;
use url::Url;

use crate::{
    app::App,
    error::{Error, Result},
    infra::atproto::{
        identity::{self, Resolved},
        oauth::Target,
        syntax::{Did, Handle},
    },
};

/// What was typed, without what people paste along: spaces, the sign before a handle, marks of direction.
pub(super) fn clean(typed: &str) -> String {
    let invisible = |c: &char| {
        !c.is_control()
            && !c.is_whitespace()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let text: String = typed.chars().filter(invisible).collect();
    let text = text.strip_prefix("at://").unwrap_or(&text);
    text.strip_prefix('@').unwrap_or(text).to_owned()
}

/// Who or what is meant: an account by its DID or handle, else a server by its host.
pub(super) async fn find(app: &App, typed: &str) -> Result<Target> {
    if typed.starts_with("did:") {
        let did = Did::parse(typed)?;
        let unknown = || Error::invalid("identifier", "DID_UNKNOWN", "no account has this DID");
        let resolved = app.directory.resolve(&did).await?.ok_or_else(unknown)?;
        return at_home(did, resolved);
    }
    if typed.contains("://") {
        return server(app, Url::parse(typed).ok());
    }
    let Ok(handle) = Handle::parse(typed) else { return server(app, host(app, typed)) };
    let handle = handle.to_lowercase();
    let named = app.directory.resolve_handle(&handle).await;
    if let Ok(Some(did)) = named {
        return claimed(app, did, &handle).await;
    }
    // Nobody's handle, and so perhaps the host of a server.
    let unknown = Error::invalid("identifier", "HANDLE_UNKNOWN", "no account has this handle");
    match server(app, host(app, handle.as_str())) {
        Ok(target) if serves(app, &target).await => Ok(target),
        _ => Err(named.err().unwrap_or(unknown)),
    }
}

/// The account that a handle names, if it claims the handle.
async fn claimed(app: &App, did: Did, handle: &Handle) -> Result<Target> {
    let why = "the account does not say that this handle is its own";
    let unconfirmed = || Error::invalid("identifier", "HANDLE_UNCONFIRMED", why);
    let resolved = app.directory.resolve(&did).await?.ok_or_else(unconfirmed)?;
    match &resolved.handle {
        identity::Handle::Verified(verified) if verified == handle.as_str() => at_home(did, resolved),
        identity::Handle::Verified(_) | identity::Handle::Invalid { .. } => Err(unconfirmed()),
        identity::Handle::Unknown => Err(Error::upstream("handle", anyhow!("the handle could not be checked"))),
    }
}

fn at_home(did: Did, resolved: Resolved) -> Result<Target> {
    let homeless = || Error::invalid("identifier", "PDS_UNKNOWN", "the account has no PDS that can be reached");
    Ok(Target::Account { did, pds: resolved.pds.ok_or_else(homeless)? })
}

fn server(app: &App, url: Option<Url>) -> Result<Target> {
    let why = "it is no handle, no DID and no host";
    let mut url = url
        .filter(|url| app.outbound.admits(url))
        .ok_or_else(|| Error::invalid("identifier", "LOGIN_IDENTIFIER", why))?;
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(Target::Server(url))
}

/// A host without a scheme; on a local network, with a port, without encryption.
fn host(app: &App, typed: &str) -> Option<Url> {
    let scheme = if app.outbound.allows_private() && typed.contains(':') { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{typed}")).ok()
}

/// Whether a host says that it is part of this at all.
async fn serves(app: &App, target: &Target) -> bool {
    let Target::Server(url) = target else { return false };
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"] {
        let Ok(url) = url.join(path) else { return false };
        if app.outbound.get("oauth", &url).await.is_ok_and(|answer| answer.is_success()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn what_is_pasted_along_is_left_out() {
        for typed in
            ["alice.test", " @alice.test\n", "\u{202a}alice.test\u{202c}", "at://alice.test", "@ali\u{200b}ce.test"]
        {
            assert_eq!(clean(typed), "alice.test", "{typed:?}");
        }
    }
}
