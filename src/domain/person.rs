//! People: members who have signed in, and what they may do.

use entities::{sets::UserRole, user};

use super::{session, tenant::Tenant};
use crate::{
    app::App,
    error::{Error, Result},
};

/// What a person may do; each may do what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Has an account.
    Member,
    /// Administers the tenant of that account.
    Admin,
    /// Administers every tenant.
    Operator,
}

/// A member who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Id of the account.
    pub user: i64,
    /// DID of the account, where it is linked to one.
    pub did: Option<String>,
    /// The tenant that the request means: that of the account, unless an operator [named another](Self::enter).
    pub tenant: Tenant,
    /// What the person may do.
    pub role: Role,
    /// The session that was shown; none where the person's PDS vouched for a single request.
    pub session: Option<i64>,
    home: Tenant,
    name: String,
}

impl Person {
    /// The member of a session, with the role that was granted or configured.
    pub async fn of_session(app: &App, found: &session::Found) -> Result<Self> {
        let role = role_of(app, &found.user).await?;
        Ok(Self::new(&found.user, role, Some(found.session.id)))
    }

    /// A member for whom their PDS vouches. Whatever role they have stays out of it: the token was made for a program.
    pub fn vouched_for(user: &user::Model) -> Self {
        Self::new(user, Role::Member, None)
    }

    fn new(user: &user::Model, role: Role, session: Option<i64>) -> Self {
        let (home, did) = (Tenant::of_user(user), user.did.clone());
        let name = did.clone().unwrap_or_else(|| format!("member {}", user.id));
        Self { user: user.id, did, tenant: home, role, session, home, name }
    }

    /// Who it is, for the history of what was done: the DID, where there is one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the person administers the tenant.
    pub fn administers(&self, tenant: Tenant) -> bool {
        self.role == Role::Operator || (self.role == Role::Admin && tenant == self.home)
    }

    /// The same person in the tenant that a request names.
    ///
    /// Errors: `Forbidden` for any but the person's own, whether there is such a tenant or not, unless it is an operator.
    pub async fn enter(self, app: &App, slug: &str) -> Result<Self> {
        let named = Tenant::by_slug(app.db.read(), slug).await?;
        let may = |tenant: &Tenant| *tenant == self.home || self.role == Role::Operator;
        let tenant = named.filter(may).ok_or(Error::Forbidden { why: "this account is in another tenant" })?;
        Ok(Self { tenant, ..self })
    }
}

/// The role of a member: what was granted, or more where the configuration names the DID. It counts only where the member has
/// shown that the DID is theirs, and is not merely filed under it.
async fn role_of(app: &App, user: &user::Model) -> Result<Role> {
    let granted = if user.role == Some(UserRole::Admin) { Role::Admin } else { Role::Member };
    let shown = user.preferences_bluesky.as_ref().filter(|link| link.connected && user.did.as_ref() == Some(&link.did));
    let Some(did) = shown.map(|link| link.did.as_str()) else { return Ok(granted) };
    let access = &app.config.access;
    if access.operators.iter().any(|operator| operator == did) {
        return Ok(Role::Operator);
    }
    for named in &access.administrators {
        let (slug, named) = administrator(named);
        if named == did && administered(app, slug).await? == Some(Tenant::of_user(user)) {
            return Ok(Role::Admin);
        }
    }
    Ok(granted)
}

/// An entry of `access.administrators`: the name of the tenant, where it says one, and the DID.
pub(super) fn administrator(entry: &str) -> (Option<&str>, &str) {
    entry.split_once('=').map_or((None, entry), |(slug, did)| (Some(slug), did))
}

/// The tenant that such an entry means.
pub(super) async fn administered(app: &App, slug: Option<&str>) -> Result<Option<Tenant>> {
    match slug {
        Some(slug) => Tenant::by_slug(app.db.read(), slug).await,
        None => Ok(Some(app.network)),
    }
}
