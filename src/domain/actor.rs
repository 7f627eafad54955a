//! Who asks, and what that allows. Doors say what a caller showed; every use case that is not for everybody asks here.

use std::{collections::HashSet, fmt, sync::Arc};

use super::{
    key::{self, ServiceKey},
    person::{Person, Role},
    session::{self, Kind},
    tenant::Tenant,
    vouching,
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
    /// A member who has signed in.
    Person(Person),
    /// Whoever can run commands on the machine, and so has the database anyway.
    Operator,
}

impl Actor {
    /// Whether the actor administers the tenant.
    ///
    /// Errors: `Unauthenticated` for nobody in particular, `Forbidden` for a key or a person without the right or of another
    /// tenant.
    pub fn administers(&self, tenant: Tenant) -> Result<()> {
        let key = match self {
            Self::Operator => return Ok(()),
            Self::Anonymous => return Err(unknown()),
            Self::Person(person) if person.administers(tenant) => return Ok(()),
            Self::Person(person) if person.role >= Role::Admin => {
                return Err(Error::Forbidden { why: "this person administers another tenant" });
            }
            Self::Person(_) => return Err(Error::Forbidden { why: "this person may not administer" }),
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

    /// The tenant that the request of a key or a person means, if the actor administers it.
    ///
    /// Errors: as [`administers`](Self::administers).
    pub fn administers_own_tenant(&self) -> Result<Tenant> {
        let tenant = match self {
            Self::Key(key) => key.tenant,
            Self::Person(person) => person.tenant,
            Self::Anonymous | Self::Operator => return Err(unknown()),
        };
        self.administers(tenant)?;
        Ok(tenant)
    }

    /// With what an administrator brings events and answers: the key that was shown; a person could make one that speaks for
    /// every source, and needs none.
    ///
    /// Errors: as [`administers`](Self::administers).
    pub fn brings(&self) -> Result<ServiceKey> {
        let tenant = self.administers_own_tenant()?;
        match self {
            Self::Key(key) => Ok(key.clone()),
            _ => Ok(ServiceKey::of_administrator(self.name(), tenant)),
        }
    }

    /// The person.
    ///
    /// Errors: `Unauthenticated` for nobody in particular, `Forbidden` for a program.
    pub fn person(&self) -> Result<&Person> {
        match self {
            Self::Person(person) => Ok(person),
            Self::Anonymous => Err(Error::Unauthenticated { why: "sign in first" }),
            Self::Key(_) | Self::Operator => Err(Error::Forbidden { why: "only a person has an account" }),
        }
    }

    /// The key that was shown.
    ///
    /// Errors: `Unauthenticated` where there is none.
    pub fn into_key(self) -> Result<ServiceKey> {
        match self {
            Self::Key(key) => Ok(key),
            Self::Anonymous | Self::Person(_) | Self::Operator => Err(unknown()),
        }
    }

    /// Who it is, for the history of what was decided: the public part of a key, the DID of a person.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Key(key) => &key.prefix,
            Self::Person(person) => person.name(),
            Self::Operator => "operator",
        }
    }
}

/// What nobody in particular is told where somebody is needed.
pub(super) fn unknown() -> Error {
    Error::Unauthenticated { why: "send `Authorization: Bearer KEY` with a service key, or sign in" }
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// Value of an `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The session of a cookie, of a page that may act for its person; the header counts before it.
    pub cookie: Option<&'a str>,
}

impl Shown<'_> {
    /// Whether it opens one request and no more: then it is no use to what stays open.
    pub fn is_for_one_request(&self) -> bool {
        let text = self.authorization.and_then(|shown| shown.trim().split_once(' '));
        text.is_some_and(|(_, text)| vouching::is_token(text.trim()))
    }

    /// What of it would open something for longer, by its form.
    pub fn credential(&self) -> Option<Credential> {
        match self.authorization {
            Some(shown) => {
                let (_, text) = shown.trim().split_once(' ')?;
                let text = text.trim();
                let is_session = session::is_token(text);
                Some(if is_session {
                    Credential::Session(Kind::Bearer, text.into())
                } else {
                    Credential::Key(text.into())
                })
            }
            None => Some(Credential::Session(Kind::Cookie, self.cookie?.into())),
        }
    }
}

/// What opens something for longer than one request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A service key.
    Key(Arc<str>),
    /// The token of a session, as it was handed out.
    Session(Kind, Arc<str>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

/// What was found out about credentials by looking at many at once.
#[derive(Debug)]
pub struct Looked {
    /// Those that open.
    pub open: HashSet<Credential>,
    keys: Vec<entities::service_key::Model>,
    sessions: Vec<entities::session::Model>,
}

impl Looked {
    /// Notes that those which open are in use, as [`identify`] does. Apart, so that nobody has to wait for a write to learn
    /// what opens no more.
    pub async fn note_use(&self, app: &App) {
        session::note_use(app, &self.sessions).await;
        for key in &self.keys {
            key::note_use(app, key).await;
        }
    }
}

/// Looks which of these open, as [`identify`] has it, in two statements however many they are.
pub async fn look(app: &App, credentials: &[Credential]) -> Result<Looked> {
    let (mut keys, mut tokens) = (Vec::new(), Vec::new());
    for credential in credentials {
        match credential {
            Credential::Key(text) => keys.push(&**text),
            Credential::Session(_, token) => tokens.push(&**token),
        }
    }
    let (keys, sessions) = (key::find_all(app, &keys).await?, session::find_all(app, &tokens).await?);
    let opens = |credential: &&Credential| match credential {
        Credential::Key(text) => keys.contains_key(&**text),
        Credential::Session(kind, token) => sessions.get(&**token).is_some_and(|row| row.kind == *kind),
    };
    let open = credentials.iter().filter(opens).cloned().collect();
    Ok(Looked { open, keys: keys.into_values().collect(), sessions: sessions.into_values().collect() })
}

/// Who shows this; nobody in particular without any of it. A key or a person is in the tenant that the request names, else
/// in their first one.
///
/// Errors: `Unauthenticated` for a header that does not open. Whoever sends one wants to be somebody: to treat a mistyped
/// key as none would hide the mistake. A cookie is sent whether it opens or not, and one that does not is as none.
/// `Forbidden` for a key or a person in a tenant that is none of their own; there a cookie is as none, too.
pub async fn identify(app: &App, shown: Shown<'_>, tenant: Option<&str>) -> Result<Actor> {
    let actor = match shown {
        Shown { authorization: Some(shown), .. } => {
            let bearer = shown.trim().split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let why = "send `Authorization: Bearer KEY` with a service key or a session that was not revoked";
            let opened = match bearer.map(|(_, text)| text.trim()) {
                Some(text) if session::is_token(text) => of_session(app, text, Kind::Bearer).await?,
                Some(text) if vouching::is_token(text) => vouching::person(app, text, tenant).await?.map(Actor::Person),
                Some(text) => key::verify(app, text).await?.map(Actor::Key),
                None => None,
            };
            opened.ok_or(Error::Unauthenticated { why })?
        }
        Shown { cookie: Some(text), .. } => of_session(app, text, Kind::Cookie).await?.unwrap_or(Actor::Anonymous),
        Shown { authorization: None, cookie: None } => Actor::Anonymous,
    };
    Ok(match (actor, tenant) {
        (Actor::Key(key), Some(slug)) => Actor::Key(key.enter(app, slug).await?),
        (Actor::Person(person), Some(slug)) => match person.enter(app, slug).await {
            // The browser sends the cookie to pages of every tenant.
            Err(Error::Forbidden { .. }) if shown.authorization.is_none() => Actor::Anonymous,
            entered => Actor::Person(entered?),
        },
        (actor, _) => actor,
    })
}

/// A session is shown as it was handed out: what a cookie holds opens nothing in a header, nor the other way round.
async fn of_session(app: &App, token: &str, kind: Kind) -> Result<Option<Actor>> {
    match session::find(app, token).await? {
        Some(found) if found.session.kind == kind => Ok(Some(Actor::Person(Person::of_session(app, &found).await?))),
        _ => Ok(None),
    }
}
