//! Accounts: members of the tenant, and the shadow accounts of authors who have not joined.
//!
//! A person is known by the DID; a handle is shown, and found, only while it is verified. A shadow account is visible
//! while its account on the network is active. Sites whose events programs bring have shadow accounts without a DID.

pub mod care;
mod claim;
pub mod identity;
mod leave;
mod link;
pub mod lookup;
pub(crate) mod member;
mod query;
pub mod resolve;
pub mod roles;
pub mod shadow;
mod tokens;
mod told;
mod unite;

use entities::{
    identity as network,
    sets::{AccountStatus, HandleStatus},
    user,
};

pub(crate) use self::query::{ids_of, shadow_order};
pub use self::{
    claim::{Claimed, claim, claim_for, link},
    leave::sign_out,
    link::{Choice, choose, disconnect, note_picture},
    member::{SignedIn, fill_email, is_linked, sign_in},
    query::{
        Known, ShadowFilter, administrators, by_dids, by_ids, count_shadows, dids_by_handle, dids_of, find_shadow,
        shadows,
    },
    unite::Transferred,
};

/// A way to name an account of the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// By decentralised identifier.
    Did(String),
    /// By handle, in lower case; names an account only while it is verified.
    Handle(String),
}

/// An account with what is known of it on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account in the tenant.
    pub user: user::Model,
    /// The account on the network, once it is known.
    pub identity: Option<network::Model>,
}

impl Account {
    /// The current handle, if it is verified.
    pub fn handle(&self) -> Option<&str> {
        self.identity.as_ref().and_then(verified_handle)
    }

    /// What to call the account: the handle, else the DID; the site that events come from.
    pub fn display_name(&self) -> &str {
        self.handle().or(self.user.did.as_deref()).or(self.user.source_name.as_deref()).unwrap_or("unnamed")
    }

    /// Whether it may be shown by itself: members always, shadow accounts while they are active on the network.
    pub fn is_visible(&self) -> bool {
        let is_active = |identity: &network::Model| identity.account_status == AccountStatus::Active;
        !self.user.is_shadow_account || self.identity.as_ref().is_none_or(is_active)
    }
}

/// The current handle of an account of the network, if it is verified.
fn verified_handle(identity: &network::Model) -> Option<&str> {
    identity.handle.as_deref().filter(|_| identity.handle_status == HandleStatus::Verified)
}
