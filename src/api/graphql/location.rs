//! Places of an event.

use async_graphql::{SimpleObject, Union};
use entities::location::{Link, Location};

use super::scalars::Url;

/// A place, as in the community lexicon.
#[derive(Clone, Debug, Union)]
pub(crate) enum EventLocation {
    /// At an address.
    Address(AddressLocation),
    /// At a point.
    Geo(GeoLocation),
    /// Online.
    Online(OnlineLocation),
    /// Somewhere else.
    Named(NamedLocation),
}

/// Postal address.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct AddressLocation {
    /// Name of the venue.
    name: Option<String>,
    /// Street and number.
    street: Option<String>,
    /// City or town.
    locality: Option<String>,
    /// State or province.
    region: Option<String>,
    /// Postal code.
    postal_code: Option<String>,
    /// ISO 3166-1 alpha-2 country code, or what the record says.
    country: Option<String>,
}

/// WGS 84 point.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct GeoLocation {
    /// Name of the place.
    name: Option<String>,
    /// Latitude in degrees.
    latitude: f64,
    /// Longitude in degrees.
    longitude: f64,
}

/// Meeting link.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct OnlineLocation {
    /// Label.
    name: Option<String>,
    /// Link; null unless the caller may see it.
    url: Option<Url>,
}

/// A place of which neither address nor point is known, such as one named by a foreign system's key.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct NamedLocation {
    /// Name of the place.
    name: Option<String>,
    /// Lexicon type of the record's entry, when it says one.
    lexicon: Option<String>,
}

/// A link of an event.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct EventLink {
    /// Label.
    name: Option<String>,
    /// Where it leads.
    url: Url,
}

impl From<&Location> for EventLocation {
    fn from(location: &Location) -> Self {
        match location.clone() {
            Location::Address { name, street, locality, region, postal_code, country } => {
                Self::Address(AddressLocation { name, street, locality, region, postal_code, country })
            }
            Location::Point { name, latitude, longitude } => Self::Geo(GeoLocation { name, latitude, longitude }),
            Location::Named { name, lexicon } => Self::Named(NamedLocation { name, lexicon }),
            Location::Online { name, url } => Self::Online(OnlineLocation { name, url: Some(url.into()) }),
        }
    }
}

impl From<&Link> for EventLink {
    fn from(link: &Link) -> Self {
        Self { name: link.name.clone(), url: link.url.as_str().into() }
    }
}
