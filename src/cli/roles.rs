//! `openmeet-gateway roles`: who administers a tenant.

use clap::{Args, Subcommand};
use entities::sets::UserRole;
use gateway::{
    app::App,
    domain::{
        account::{
            self,
            roles::{self, Holder},
        },
        actor::Actor,
        person::Role,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::atproto::syntax::{Did, Handle},
};

use super::print;

/// Operators, who administer every tenant, are named in the configuration only (access.operators).
#[derive(Debug, Subcommand)]
pub(super) enum Roles {
    /// Let members administer a tenant, from their next request on; whoever has never signed in does so first
    Grant(Wanted),
    /// Take that back
    Revoke(Wanted),
    /// Print who administers a tenant, one JSON object a line, those whom the configuration names at the end
    List {
        /// The tenant
        #[arg(long, value_name = "TENANT", default_value = "default")]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The members' handles, as far as they are verified, or DIDs
    #[arg(required = true, value_name = "MEMBER")]
    members: Vec<String>,
    /// The tenant
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
}

pub(super) async fn act(app: &App, command: Roles) -> Result<()> {
    match command {
        Roles::Grant(wanted) => set(app, wanted, UserRole::Admin, "granted to").await,
        Roles::Revoke(wanted) => set(app, wanted, UserRole::Member, "revoked from").await,
        Roles::List { tenant } => {
            let app = of(app, &tenant).await?;
            let holders = roles::list(&app, &Actor::Operator).await?;
            holders.iter().try_for_each(|holder| print(&format!("{}\n", line(holder))))
        }
    }
}

async fn set(app: &App, wanted: Wanted, role: UserRole, done: &str) -> Result<()> {
    let app = of(app, &wanted.tenant).await?;
    // All of them are looked at before anything is changed.
    let named = wanted.members.iter().map(|member| named(member)).collect::<Result<Vec<_>>>()?;
    for named in named {
        let account = roles::set(&app, &Actor::Operator, &named, role).await?;
        let did = account.user.did.as_deref().unwrap_or_default();
        print(&format!("{done} {did} {}\n", account.handle().unwrap_or_default()))?;
    }
    Ok(())
}

async fn of(app: &App, tenant: &str) -> Result<App> {
    let found = Tenant::by_slug(app.db.read(), tenant).await?;
    found.map(|tenant| app.of(tenant)).ok_or_else(|| Error::NotFound { what: "tenant", key: tenant.to_owned() })
}

fn named(text: &str) -> Result<account::Actor> {
    if text.starts_with("did:") {
        return Ok(account::Actor::Did(Did::parse(text)?.into_string()));
    }
    let handle = Handle::parse(text.strip_prefix('@').unwrap_or(text))?;
    Ok(account::Actor::Handle(handle.to_lowercase().into_string()))
}

fn line(holder: &Holder) -> serde_json::Value {
    serde_json::json!({
        "role": match holder.role {
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Operator => "operator",
        },
        "did": holder.did,
        "handle": holder.handle,
        "from": if holder.is_configured { "configuration" } else { "grant" },
    })
}
