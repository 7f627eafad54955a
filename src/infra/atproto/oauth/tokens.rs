//! What a token endpoint hands out, checked.

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::infra::atproto::syntax::Did;

/// Longest token; larger ones would not fit into a header.
const MAX_TOKEN: usize = 8 * 1024;
const MAX_SCOPE: usize = 8 * 1024;
/// How long a token lives whose server does not say.
const UNSAID: i64 = 300;
/// Longest life that is believed.
const LONGEST: i64 = 24 * 60 * 60;

/// Tokens of one account.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    /// Whose they are.
    pub(super) did: Did,
    /// What they allow, as the server says it.
    pub(super) scope: String,
    pub(super) expires_at: DateTime<Utc>,
}

impl Tokens {
    /// Reads an answer. `now` is when it was asked for, which is never too late.
    pub(super) fn read(body: &Value, now: DateTime<Utc>) -> Result<Self> {
        let text = |name: &'static str| match body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(anyhow!("{name} is no text")),
        };
        let token = |name: &'static str| match text(name)? {
            None => Ok(None),
            Some(text) if is_token(text) => Ok(Some(text.to_owned())),
            Some(_) => Err(anyhow!("{name} is no token")),
        };
        let kind = text("token_type")?.ok_or_else(|| anyhow!("no token_type"))?;
        if !kind.eq_ignore_ascii_case("dpop") {
            bail!("the token is not bound to our key");
        }
        let access = token("access_token")?.ok_or_else(|| anyhow!("no access_token"))?;
        let refresh = token("refresh_token")?;
        let sub = text("sub")?.ok_or_else(|| anyhow!("no sub"))?;
        let did = Did::parse(sub).map_err(|_| anyhow!("sub is no DID"))?;
        let scope = text("scope")?.ok_or_else(|| anyhow!("no scope"))?;
        if scope.len() > MAX_SCOPE || scope.chars().any(char::is_control) {
            bail!("scope is no scope");
        }
        if !scope.split(' ').any(|one| one == "atproto") {
            bail!("the scope atproto was not granted");
        }
        let seconds = match body.get("expires_in") {
            None | Some(Value::Null) => UNSAID,
            Some(number) => number.as_i64().ok_or_else(|| anyhow!("expires_in is no number of seconds"))?,
        };
        if !(1..=LONGEST).contains(&seconds) {
            bail!("expires_in is out of range");
        }
        let expires_at = now + TimeDelta::seconds(seconds);
        Ok(Self { access, refresh, did, scope: scope.to_owned(), expires_at })
    }
}

fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
