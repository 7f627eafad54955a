//! The five kinds of location of the lexicon, and whatever else stands in that open list.

use std::str::FromStr;

use entities::location::Location;
use h3o::{CellIndex, LatLng};
use serde_json::Value;

use crate::domain::source::{
    lenient::{Reader, clean, degrees},
    link,
};

/// Entries of the list that are kept.
const LOCATIONS_LIMIT: usize = 20;
/// Characters of a part of an address that are kept.
const PART_LIMIT: usize = 300;

/// Places and the best known point among them.
pub(super) struct Places {
    pub(super) locations: Vec<Location>,
    pub(super) point: Option<(f64, f64)>,
}

/// How much a point is worth: exact coordinates before a listed place before the centre of a cell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Coordinates,
    Foursquare,
    Cell,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Places {
    let entries: Vec<&Value> = match reader.field("locations") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries.iter().collect(),
        Some(single) => {
            reader.note("LOCATIONS_MALFORMED");
            vec![single]
        }
    };
    if entries.len() > LOCATIONS_LIMIT {
        reader.note("LOCATIONS_SHORTENED");
    }
    let mut places = Places { locations: Vec::new(), point: None };
    let mut best: Option<Precision> = None;
    for entry in entries.into_iter().take(LOCATIONS_LIMIT) {
        let Some((location, precision)) = place(reader, entry) else {
            reader.note("LOCATIONS_MALFORMED");
            continue;
        };
        if let (Location::Point { latitude, longitude, .. }, Some(precision)) = (&location, precision)
            && best.is_none_or(|best| precision < best)
        {
            best = Some(precision);
            places.point = Some((*latitude, *longitude));
        }
        places.locations.push(location);
    }
    places
}

fn place(reader: &mut Reader<'_>, entry: &Value) -> Option<(Location, Option<Precision>)> {
    if let Some(text) = entry.as_str() {
        reader.note("LOCATIONS_MALFORMED");
        let name = Some(part_of(text)?);
        return Some((address(name, &Value::Null), None));
    }
    entry.as_object()?;
    let lexicon = entry.get("$type").and_then(Value::as_str);
    if lexicon.is_none() {
        reader.note("LOCATION_TYPE_MISSING");
    }
    let name = part(entry, "name");
    match lexicon.map_or_else(|| guess(entry), |lexicon| lexicon.trim_end_matches("#main")) {
        "community.lexicon.calendar.event#uri" => {
            let link = link::read(entry)?;
            Some((Location::Online { name: link.name, url: link.url }, None))
        }
        "community.lexicon.location.address" => Some((address(name, entry), None)),
        "community.lexicon.location.geo" => Some(point(reader, name, coordinates(entry), Precision::Coordinates)),
        // A Foursquare place need not say where it is.
        "community.lexicon.location.fsq" => match (entry.get("latitude"), entry.get("longitude")) {
            (None, None) => Some((named(name, entry), None)),
            _ => Some(point(reader, name, coordinates(entry), Precision::Foursquare)),
        },
        "community.lexicon.location.hthree" => {
            let cell =
                entry.get("value").and_then(Value::as_str).and_then(|text| CellIndex::from_str(text.trim()).ok());
            let centre = cell.map(LatLng::from).map(|centre| (centre.lat(), centre.lng()));
            Some(point(reader, name, centre, Precision::Cell))
        }
        _ => {
            reader.note("LOCATION_TYPE_UNKNOWN");
            Some((named(name, entry), None))
        }
    }
}

/// The kind of an entry that does not say its type.
fn guess(entry: &Value) -> &'static str {
    let has = |name| entry.get(name).is_some_and(|value: &Value| !value.is_null());
    if has("uri") {
        "community.lexicon.calendar.event#uri"
    } else if has("fsq_place_id") {
        "community.lexicon.location.fsq"
    } else if has("latitude") && has("longitude") {
        "community.lexicon.location.geo"
    } else if ["country", "locality", "street", "region", "postalCode"].into_iter().any(has) {
        "community.lexicon.location.address"
    } else if has("value") {
        "community.lexicon.location.hthree"
    } else {
        ""
    }
}

fn coordinates(entry: &Value) -> Option<(f64, f64)> {
    Some((degrees(entry.get("latitude"), 90.0)?, degrees(entry.get("longitude"), 180.0)?))
}

fn point(
    reader: &mut Reader<'_>,
    name: Option<String>,
    at: Option<(f64, f64)>,
    precision: Precision,
) -> (Location, Option<Precision>) {
    let Some((latitude, longitude)) = at else {
        reader.note("LOCATION_POINT_INVALID");
        return (Location::Named { name, lexicon: None }, None);
    };
    (Location::Point { name, latitude, longitude }, Some(precision))
}

fn named(name: Option<String>, entry: &Value) -> Location {
    Location::Named { name, lexicon: part(entry, "$type") }
}

fn address(name: Option<String>, entry: &Value) -> Location {
    Location::Address {
        name,
        street: part(entry, "street"),
        locality: part(entry, "locality"),
        region: part(entry, "region"),
        postal_code: part(entry, "postalCode"),
        country: part(entry, "country"),
    }
}

fn part(entry: &Value, name: &str) -> Option<String> {
    match entry.get(name)? {
        Value::String(text) => part_of(text),
        // Postal codes and house numbers are written as numbers now and then.
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn part_of(text: &str) -> Option<String> {
    let text: String = clean(text).chars().take(PART_LIMIT).collect();
    (!text.is_empty()).then_some(text)
}
