//! People: signing in, sessions, and what becomes of shadow accounts.

pub(crate) mod claiming;
mod doors;
mod sessions;
mod signing_in;
mod vouching;

use gateway::domain::account::SignedIn;

use crate::support::records::did;

/// Somebody who has shown to be this person.
fn signed_in(person: usize) -> SignedIn {
    SignedIn {
        did: did(7, person),
        handle: Some(format!("person{person}.example.com")),
        pds: "https://pds.example.com/".parse().unwrap(),
        scopes: vec!["atproto".to_owned()],
    }
}
