//! Who asks, and what that allows. Doors say what a caller showed; every use case that is not for everybody asks here.

use super::{
    key::{self, ServiceKey},
    tenant::Tenant,
};
use crate::{
    app::App,
    error::{Error, Result},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody in particular.
    Anonymous,
    /// A program with a service key.
    Key(ServiceKey),
    /// Whoever can run commands on the machine, and so has the database anyway.
    Operator,
}

impl Actor {
    /// Whether the actor administers the tenant.
    ///
    /// Errors: `Unauthenticated` for nobody in particular, `Forbidden` for a key without the right or of another tenant.
    pub fn administers(&self, tenant: Tenant) -> Result<()> {
        let key = match self {
            Self::Operator => return Ok(()),
            Self::Anonymous => return Err(unknown()),
            Self::Key(key) => key,
        };
        if !key.is_admin {
            return Err(Error::Forbidden { why: "this key may not administer" });
        }
        if key.tenant != tenant {
            return Err(Error::Forbidden { why: "this key administers another tenant" });
        }
        Ok(())
    }

    /// The key of an actor that administers the tenant of that key.
    ///
    /// Errors: as [`administers`](Self::administers).
    pub fn administers_own_tenant(&self) -> Result<&ServiceKey> {
        let Self::Key(key) = self else { return Err(unknown()) };
        self.administers(key.tenant)?;
        Ok(key)
    }

    /// The key that was shown.
    ///
    /// Errors: `Unauthenticated` where there is none.
    pub fn into_key(self) -> Result<ServiceKey> {
        match self {
            Self::Key(key) => Ok(key),
            Self::Anonymous | Self::Operator => Err(unknown()),
        }
    }

    /// Who it is, for the history of what was decided: the public part of a key.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Key(key) => &key.prefix,
            Self::Operator => "operator",
        }
    }
}

/// What nobody in particular is told where somebody is needed.
pub(super) fn unknown() -> Error {
    Error::Unauthenticated { why: "send `Authorization: Bearer KEY` with a service key" }
}

/// Who shows this value of an `Authorization` header; without one, nobody in particular. A key is in the tenant that the
/// request names, else in its first one.
///
/// Errors: `Unauthenticated` for what does not open. Whoever shows something wants to be somebody: to treat a mistyped key
/// as none would hide the mistake. `Forbidden` for a key in a tenant that is none of its own.
pub async fn identify(app: &App, authorization: Option<&str>, tenant: Option<&str>) -> Result<Actor> {
    let Some(shown) = authorization else { return Ok(Actor::Anonymous) };
    let key = match shown.trim().split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key::verify(app, key.trim()).await?,
        _ => None,
    };
    let why = "send `Authorization: Bearer KEY` with a service key that was not revoked";
    let key = key.ok_or(Error::Unauthenticated { why })?;
    Ok(Actor::Key(match tenant {
        Some(slug) => key.enter(app, slug).await?,
        None => key,
    }))
}
