//! Places of an event, as one JSON column.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// Places in the organiser's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Locations(pub Vec<Location>);

/// One place. Coordinates are WGS 84 degrees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Location {
    /// Postal address.
    Address {
        /// Venue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Street and number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        street: Option<String>,
        /// City or town.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locality: Option<String>,
        /// State or province.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// Postal code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        postal_code: Option<String>,
        /// ISO 3166-1 alpha-2 code, or what the record says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        country: Option<String>,
    },
    /// A point: from coordinates, an H3 cell or a Foursquare place.
    Point {
        /// Name of the place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
    },
    /// A place known by a foreign key only, such as a Foursquare id without coordinates.
    Named {
        /// Name of the place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Lexicon type of the record's entry, when it says one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lexicon: Option<String>,
    },
    /// A link.
    Online {
        /// Label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Absolute http or https URL.
        url: String,
    },
}

/// Links of an event, as one JSON column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Links(pub Vec<Link>);

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Absolute http or https URL.
    pub url: String,
}

/// List of short texts, as one JSON column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Texts(pub Vec<String>);
