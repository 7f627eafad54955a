//! Conditions that several nouns share.

use async_graphql::{InputObject, OneofObject};

use super::scalars::{DateTime, Did, Handle};
use crate::{
    domain::{account::Actor, event, range::Range},
    error::Result,
};

/// Inclusive lower and exclusive upper bound.
#[derive(Clone, Copy, Debug, InputObject)]
pub(crate) struct DateTimeRange {
    /// At or after this instant.
    pub(crate) from: Option<DateTime>,
    /// Before this instant.
    pub(crate) to: Option<DateTime>,
}

impl From<DateTimeRange> for Range {
    fn from(range: DateTimeRange) -> Self {
        Self { from: range.from.map(|from| from.0), to: range.to.map(|to| to.0) }
    }
}

/// Area around a point.
#[derive(Clone, Copy, Debug, InputObject)]
pub(crate) struct GeoRadius {
    /// Latitude in degrees, -90 to 90.
    pub(crate) latitude: f64,
    /// Longitude in degrees, -180 to 180.
    pub(crate) longitude: f64,
    /// Radius in metres, 1 to 500000.
    pub(crate) radius_meters: i32,
}

impl GeoRadius {
    /// The area, if every number is in its range.
    pub(crate) fn read(self) -> Result<event::GeoRadius> {
        event::GeoRadius::new(self.latitude, self.longitude, self.radius_meters)
    }
}

/// Exactly one way to name an ATProtocol account.
#[derive(Clone, Debug, OneofObject)]
pub(crate) enum ActorRef {
    /// By decentralised identifier; preferred, because handles move.
    Did(Did),
    /// By current handle; names nobody while it is not verified.
    Handle(Handle),
}

impl From<ActorRef> for Actor {
    fn from(actor: ActorRef) -> Self {
        match actor {
            ActorRef::Did(did) => Self::Did(did.0),
            ActorRef::Handle(handle) => Self::Handle(handle.0),
        }
    }
}
