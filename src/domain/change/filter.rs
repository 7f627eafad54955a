//! What a consumer of the change log wants to see.
//!
//! A filter has two forms that agree: [`Filter::matches`] looks at one row, for the fan-out in memory, and
//! [`Filter::condition`] narrows a query. The condition lets more through where SQL cannot do the trigonometry, so
//! whoever reads with it asks `matches` of every row afterwards.

use chrono::{DateTime, Utc};
use entities::{
    change,
    sets::{ChangeOperation, SourceType},
};
use sea_orm::{ColumnTrait, Condition};

/// Mean radius of the Earth in metres (IUGG).
const EARTH_RADIUS: f64 = 6_371_008.8;

/// Conditions on changes, all of which must hold. A list holds for any of its members, and for none when it is empty;
/// what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Origins of the event.
    pub source: Option<Vec<SourceType>>,
    /// Kinds of change.
    pub operation: Option<Vec<ChangeOperation>>,
    /// DIDs of the event's organiser.
    pub organizers: Option<Vec<String>>,
    /// When the event starts; one without a start never matches.
    pub starts_at: Option<Span>,
    /// Where the event takes place; one without a known point never matches.
    pub near: Option<Circle>,
}

/// A span of time, in whole microseconds as the database keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// At or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// An area around a point: great-circle distances on a sphere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circle {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// Radius in metres; the rim belongs to the area.
    pub radius_meters: f64,
}

impl Filter {
    /// Whether a change is wanted.
    pub fn matches(&self, row: &change::Model) -> bool {
        any(self.source.as_ref(), &row.source_type)
            && any(self.operation.as_ref(), &row.operation)
            && self.organizers.as_ref().is_none_or(|dids| row.organizer_did.as_ref().is_some_and(|did| dids.contains(did)))
            && self.starts_at.is_none_or(|span| row.starts_at.is_some_and(|start| span.contains(start)))
            && self.near.is_none_or(|circle| point(row).is_some_and(|(lat, lon)| circle.contains(lat, lon)))
    }

    /// Lets through every row that [matches](Self::matches), and, around a point, some more.
    pub(super) fn condition(&self) -> Condition {
        let mut all = Condition::all();
        if let Some(sources) = &self.source {
            all = all.add(change::Column::SourceType.is_in(sources.iter().copied()));
        }
        if let Some(operations) = &self.operation {
            all = all.add(change::Column::Operation.is_in(operations.iter().copied()));
        }
        if let Some(dids) = &self.organizers {
            all = all.add(change::Column::OrganizerDid.is_in(dids));
        }
        if let Some(span) = self.starts_at {
            all = all.add(change::Column::StartsAt.is_not_null());
            all = all.add_option(span.from.map(|from| change::Column::StartsAt.gte(from)));
            all = all.add_option(span.to.map(|to| change::Column::StartsAt.lt(to)));
        }
        if let Some(circle) = self.near {
            let frame = circle.frame();
            all = all.add(change::Column::Latitude.between(frame.south, frame.north));
            let mut longitudes = Condition::any();
            for (west, east) in frame.longitudes {
                longitudes = longitudes.add(change::Column::Longitude.between(west, east));
            }
            all = all.add(longitudes);
        }
        all
    }
}

impl Span {
    /// Whether the instant lies inside.
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }
}

impl Circle {
    /// Whether the point, in degrees, lies inside.
    pub fn contains(&self, latitude: f64, longitude: f64) -> bool {
        distance((self.latitude, self.longitude), (latitude, longitude)) <= self.radius_meters
    }

    /// Latitudes and longitudes outside of which no point of the circle lies.
    fn frame(&self) -> Frame {
        // A little more than the radius, so that rounding cannot leave out a point on the rim.
        let angle = (self.radius_meters * 1.000_001 + 0.01) / EARTH_RADIUS;
        let (south, north) = (self.latitude - angle.to_degrees(), self.latitude + angle.to_degrees());
        if south <= -90.0 || north >= 90.0 {
            // A pole lies inside: every meridian passes through it.
            return Frame { south, north, longitudes: vec![(-180.0, 180.0)] };
        }
        let reach = (angle.sin() / self.latitude.to_radians().cos()).clamp(0.0, 1.0).asin().to_degrees() + 1e-6;
        let (west, east) = (self.longitude - reach, self.longitude + reach);
        let longitudes = if west < -180.0 {
            vec![(-180.0, east), (west + 360.0, 180.0)]
        } else if east > 180.0 {
            vec![(west, 180.0), (-180.0, east - 360.0)]
        } else {
            vec![(west, east)]
        };
        Frame { south, north, longitudes }
    }
}

/// Degrees; spans of longitude never cross the antimeridian.
struct Frame {
    south: f64,
    north: f64,
    longitudes: Vec<(f64, f64)>,
}

fn any<T: PartialEq>(wanted: Option<&Vec<T>>, value: &T) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(value))
}

fn point(row: &change::Model) -> Option<(f64, f64)> {
    row.latitude.zip(row.longitude)
}

/// Metres between two points in degrees, by the haversine formula, which stays exact for small distances.
fn distance(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (lat1, lat2) = (from.0.to_radians(), to.0.to_radians());
    let (dlat, dlon) = (lat2 - lat1, (to.1 - from.1).to_radians());
    let h = (dlat / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * (dlon / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS * h.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn distances_are_those_of_the_globe() {
        let quarter = EARTH_RADIUS * std::f64::consts::FRAC_PI_2;
        for (from, to, meters) in [
            ((0.0, 0.0), (0.0, 90.0), quarter),
            ((0.0, 179.0), (0.0, -179.0), quarter / 45.0),
            ((90.0, 12.0), (90.0, -120.0), 0.0),
            ((-90.0, 0.0), (90.0, 0.0), 2.0 * quarter),
            ((52.520_008, 13.404_954), (48.856_613, 2.352_222), 877_464.6),
        ] {
            assert!((distance(from, to) - meters).abs() < 200.0, "{from:?} {to:?} {}", distance(from, to));
        }
    }

    fn latitude() -> impl Strategy<Value = f64> {
        prop_oneof![-90.0..=90.0, Just(90.0), Just(-90.0), 89.0..=90.0, -90.0..=-89.0]
    }

    fn longitude() -> impl Strategy<Value = f64> {
        prop_oneof![-180.0..=180.0, Just(180.0), Just(-180.0), 179.0..=180.0, -180.0..=-179.0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_frame_holds_the_whole_circle(
            center in (latitude(), longitude()),
            radius_meters in prop_oneof![0.0..500_000.0, 0.0..30_000_000.0],
            bearing in 0.0..std::f64::consts::TAU,
            part in prop_oneof![0.0..1.0, Just(1.0 - 1e-9)],
        ) {
            let circle = Circle { latitude: center.0, longitude: center.1, radius_meters };
            // The point that lies at a part of the radius in some direction.
            let (lat, angle): (f64, f64) = (center.0.to_radians(), part * radius_meters / EARTH_RADIUS);
            let sine = (lat.sin() * angle.cos() + lat.cos() * angle.sin() * bearing.cos()).clamp(-1.0, 1.0);
            let turn = (bearing.sin() * angle.sin() * lat.cos()).atan2(angle.cos() - lat.sin() * sine);
            let east: f64 = center.1 + turn.to_degrees();
            let point = (sine.asin().to_degrees(), (east + 540.0).rem_euclid(360.0) - 180.0);
            let frame = circle.frame();
            let framed = frame.south <= point.0
                && point.0 <= frame.north
                && frame.longitudes.iter().any(|&(west, east)| west <= point.1 && point.1 <= east);
            prop_assert!(framed || !circle.contains(point.0, point.1), "{point:?} is outside of the frame of {circle:?}");
        }
    }
}
