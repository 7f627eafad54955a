//! `openmeet-gateway tenants`: the communities that events belong to.

use clap::Subcommand;
use gateway::{app::App, domain::tenant, error::Result};

use super::print;

#[derive(Debug, Subcommand)]
pub(super) enum Tenants {
    /// Make a tenant; nothing is in it, and no key is bound to it
    Create {
        /// Name in addresses and in the header x-tenant-id: lower-case letters, digits and dashes
        slug: String,
        /// Name for people [default: the slug]
        #[arg(long)]
        name: Option<String>,
    },
    /// Print all tenants, one JSON object a line, oldest first; the first one gets the records of the network
    List,
}

pub(super) async fn act(app: &App, command: Tenants) -> Result<()> {
    match command {
        Tenants::Create { slug, name } => {
            tenant::create(app, &slug, name.as_deref().unwrap_or(&slug)).await?;
            print(&format!("created {slug}\n"))
        }
        Tenants::List => tenant::list(app.db.read()).await?.iter().try_for_each(|row| {
            let line = serde_json::json!({ "slug": row.slug, "name": row.name, "createdAt": row.created_at });
            print(&format!("{line}\n"))
        }),
    }
}
