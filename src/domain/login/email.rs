//! The address of a member, as their PDS has it, where they let us read it.
//!
//! It is taken over only if the PDS says that it was confirmed, the member has none here, and no other member of the tenant
//! has it. What the platform holds is never written over, also when the PDS has another one later. And it stays what it is,
//! the word of somebody's PDS, which may say anything: it is where mail can go to, and nobody is found, recognised or let
//! in by it.

use std::time::Duration;

use anyhow::anyhow;
use entities::user;
use serde::Deserialize;
use tokio::time::timeout;
use tracing::debug;

use crate::{
    app::App,
    domain::account,
    error::{Error, Result},
    infra::atproto::{
        oauth::Call,
        syntax::{Did, Nsid},
    },
};

/// Longest address (RFC 5321, with the brackets of a path left out).
const MAX_CHARS: usize = 254;
/// How long somebody who signs in waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a PDS says of an account that asks for its own session.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    email: Option<String>,
    #[serde(default)]
    email_confirmed: bool,
}

/// Fills in the address of a member who has none. To be called where reading it was granted; nobody is kept from signing in
/// by a PDS that does not answer.
pub(super) async fn fill(app: &App, did: &Did, member: &user::Model) {
    if member.email.is_some() {
        return;
    }
    let filled = async {
        let Some(address) = ask(app, did).await? else { return Ok(()) };
        account::fill_email(app, member.id, &address).await.map(drop)
    };
    match timeout(PATIENCE, filled).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%did, error = error.chain(), "an address was not read"),
        Err(_) => debug!(%did, "an address was not read in time"),
    }
}

/// The address that the PDS has confirmed.
async fn ask(app: &App, did: &Did) -> Result<Option<String>> {
    let answer = app.oauth.call(did, &Call::query(Nsid::parse("com.atproto.server.getSession")?, Vec::new())).await?;
    if answer.status != 200 {
        return Err(Error::upstream("pds", anyhow!("status {} for the session", answer.status)));
    }
    let told: Told = serde_json::from_slice(&answer.body).map_err(|error| Error::upstream("pds", error))?;
    Ok(told.email.filter(|address| told.email_confirmed && is_address(address)))
}

/// Whether a text can be an address at all: one that reaches nobody is no worse than none.
fn is_address(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>' | ',' | ';' | '"');
    let parts = text.rsplit_once('@');
    text.chars().count() <= MAX_CHARS
        && text.chars().all(is_plain)
        && parts.is_some_and(|(name, host)| !name.is_empty() && !name.contains('@') && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn what_is_no_address_is_not_taken_for_one() {
        for good in ["a@b.example", "ann+meet@mail.example.org", "ä@ü.example"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("{}@b.example", "a".repeat(254));
        for bad in [
            "",
            "a",
            "a@b",
            "@b.example",
            "a@b@c.example",
            "a b@c.example",
            "a@b.example\nBcc: c@d.example",
            "<a@b.example>",
            "a@b.example,c@d.example",
            &long,
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }
}
