//! Stage 6: which tenant gets it. Records of the network go to the default tenant; what a program brings goes to the tenant
//! that it was brought to, and to no other.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;

use super::{
    parked::{Parked, Stage},
    s4_map::{Claimed, Mapped},
    s5_dedupe::Deduped,
};
use crate::{
    domain::{source::Source, tenant::Tenant},
    error::Result,
};

/// A part of a batch with its destination.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) tenant: Tenant,
    pub(super) messages: Vec<Deduped>,
    /// The place of each message in the whole batch.
    pub(super) places: Vec<usize>,
}

/// One part for each tenant; the messages of a part keep their order.
pub(super) async fn route(db: &impl ConnectionTrait, messages: Vec<Deduped>, default: Tenant) -> Result<Vec<Routed>> {
    let strangers = messages.iter().filter_map(destination).filter(|id| *id != default.id());
    let mut tenants: BTreeMap<i64, Option<Tenant>> = strangers.map(|id| (id, None)).collect();
    for (id, tenant) in &mut tenants {
        *tenant = Tenant::by_id(db, *id).await?;
    }
    let mut parts = vec![Routed { tenant: default, messages: Vec::with_capacity(messages.len()), places: Vec::new() }];
    for (place, message) in messages.into_iter().enumerate() {
        let tenant = match destination(&message).and_then(|id| tenants.get(&id)) {
            None => Some(default),
            Some(found) => *found,
        };
        let (tenant, message) = if let Some(tenant) = tenant {
            (tenant, message)
        } else {
            let why = "the tenant that it was brought to does not exist";
            (default, Deduped::Refused(Parked::at(Stage::Route, "TENANT_UNKNOWN", why)))
        };
        let at = parts.iter().position(|part| part.tenant == tenant).unwrap_or_else(|| {
            parts.push(Routed { tenant, messages: Vec::new(), places: Vec::new() });
            parts.len() - 1
        });
        if let Some(part) = parts.get_mut(at) {
            part.messages.push(message);
            part.places.push(place);
        }
    }
    parts.retain(|part| !part.messages.is_empty());
    Ok(parts)
}

/// The key of the tenant that a message names.
fn destination(message: &Deduped) -> Option<i64> {
    match message {
        Deduped::Candidate(Mapped::Claim(claim)) => match **claim {
            Claimed { source: Source::Web(shelf), .. } => Some(shelf.tenant),
            Claimed { source: Source::Bluesky(_), .. } => None,
        },
        _ => None,
    }
}
