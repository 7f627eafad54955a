//! OAuth of the AT Protocol: people let the gateway act at their PDS, and take that back.
//!
//! Promises: whoever comes back from a login is who the DID's own document says its PDS vouches for, resolved anew at that
//! moment, whatever any server on the way claimed; a login is finished once, within ten minutes, by the browser that began
//! it, at the server where it began; every request proves that it comes from the holder of the session's own key; of any
//! number of callers, in any number of processes, one renews a session, and a renewed session is either kept or known to be
//! unkept; nothing that a server sends makes this code panic.
//!
//! It deliberately does not decide who may sign in, what becomes of an account (`src/domain/login/`), or what is asked
//! for: scopes come from above. Sessions are in the key-value store and may be lost with it: then people sign in again.

mod call;
mod client;
mod grants;
mod key;
mod keyset;
mod login;
mod proof;
mod refresh;
mod refused;
mod server;
mod session;
mod tokens;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

pub use self::{
    call::Call,
    client::{CALLBACK_PATH, Client, ClientSettings, KEYS_PATH, METADATA_PATH},
    grants::{Action, Grants},
    key::unguessable,
    keyset::Keyset,
    login::{Answered, Begun, Completed, Failed, Target, Verdict, Wanted},
};
use self::{proof::Way, server::SERVICE, session::Unsaved};
use super::identity::Directory;
use crate::{
    error::{Error, Result},
    infra::{clock::Clock, http::Outbound, kv::Kv, seal::Seal},
};

/// What OAuth needs of the rest.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The way to foreign hosts.
    pub outbound: Outbound,
    /// Who is behind a DID.
    pub directory: Directory,
    /// Where logins and sessions are kept.
    pub kv: Kv,
    /// What seals them.
    pub seal: Seal,
    /// Time.
    pub clock: Clock,
}

/// Logins and sessions at PDSes. Cheap to clone.
#[derive(Clone)]
pub struct OAuth(Arc<Inner>);

struct Inner {
    parts: Parts,
    client: Client,
    /// Renewed sessions that the store did not take, by DID.
    unsaved: Mutex<HashMap<String, Unsaved>>,
}

impl OAuth {
    /// Fails with `CONFIG_INVALID` or `CONFIG_UNREADABLE` for settings that make no client.
    pub fn new(settings: &ClientSettings, parts: Parts) -> Result<Self> {
        let client = Client::new(settings)?;
        Ok(Self(Arc::new(Inner { parts, client, unsaved: Mutex::default() })))
    }

    /// Who the gateway is to authorization servers.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// To authorization servers.
    fn way(&self) -> Way<'_> {
        Way { outbound: &self.parts().outbound, clock: &self.parts().clock, service: SERVICE }
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("client", &self.0.client.id()).finish_non_exhaustive()
    }
}

/// There is no session, or none that can go on: only the person can mend that.
pub(super) fn sign_in_again() -> Error {
    Error::invalid("session", "SIGN_IN_AGAIN", "the account has to sign in again")
}
