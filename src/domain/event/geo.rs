//! Distances on the sphere, written so that a database without trigonometry can compare them.
//!
//! Every point is kept as a unit vector. Two points are within a distance exactly when the chord between their vectors
//! is short enough, and the square of a chord is three differences and three products. Poles and the antimeridian need
//! no special case. The earth is a sphere here: against the ellipsoid a distance is off by at most about half a percent.

use entities::event;
use sea_orm::{
    ColumnTrait, Condition, DbBackend,
    sea_query::{Expr, ExprTrait, Query},
};

use crate::error::{Error, Result};

/// Mean radius of the earth (IUGG).
pub const EARTH_RADIUS_METERS: f64 = 6_371_008.8;

/// Largest radius that may be asked for.
pub const MAX_RADIUS_METERS: i32 = 500_000;

/// The point on the unit sphere; degrees north and east.
pub fn sphere(latitude: f64, longitude: f64) -> [f64; 3] {
    let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = longitude.to_radians().sin_cos();
    [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
}

/// The area within a distance of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoRadius {
    centre: [f64; 3],
    /// Square of the longest chord that is still inside.
    chord_squared: f64,
    /// Degrees north that bound the area.
    latitudes: (f64, f64),
    /// Degrees east that bound the area: two spans where it lies on the antimeridian, else both are the same.
    longitudes: [(f64, f64); 2],
}

impl GeoRadius {
    /// Degrees north and east, and metres from 1 to [`MAX_RADIUS_METERS`].
    ///
    /// Errors: [`Error::Invalid`] naming `near` for anything out of its range.
    pub fn new(latitude: f64, longitude: f64, meters: i32) -> Result<Self> {
        let refuse = |why| Err(Error::invalid("near", "GEO_OUT_OF_RANGE", why));
        // `contains` is false for NaN.
        if !(-90.0..=90.0).contains(&latitude) {
            return refuse("latitude must lie between -90 and 90");
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return refuse("longitude must lie between -180 and 180");
        }
        if !(1..=MAX_RADIUS_METERS).contains(&meters) {
            return refuse("radiusMeters must lie between 1 and 500000");
        }
        let angle = f64::from(meters) / EARTH_RADIUS_METERS;
        let chord = 2.0 * (angle / 2.0).sin();
        let band = angle.to_degrees() + SLACK;
        Ok(Self {
            centre: sphere(latitude, longitude),
            chord_squared: chord * chord,
            latitudes: (latitude - band, latitude + band),
            longitudes: longitudes(latitude, longitude, angle),
        })
    }

    /// Whether a point lies inside; agrees with [`GeoRadius::condition`].
    pub fn contains(&self, latitude: f64, longitude: f64) -> bool {
        let squares = sphere(latitude, longitude).into_iter().zip(self.centre).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f64>() <= self.chord_squared
    }

    /// Degrees north between which the whole area lies, for a look into an index.
    pub fn latitudes(&self) -> (f64, f64) {
        self.latitudes
    }

    /// The same on the columns of `event`; events without a known point are outside. The box around the area is for the
    /// index: a GiST of points on PostgreSQL, both degrees in order on SQLite.
    pub(crate) fn condition(&self, backend: DbBackend) -> Condition {
        use event::Column::{SphereX, SphereY, SphereZ};
        let square = |column: event::Column, at: f64| column.into_expr().sub(at).mul(column.into_expr().sub(at));
        let [x, y, z] = self.centre;
        let chord = square(SphereX, x).add(square(SphereY, y)).add(square(SphereZ, z));
        let box_around = if backend == DbBackend::Postgres { self.in_index() } else { self.in_columns() };
        Condition::all().add(box_around).add(chord.lte(self.chord_squared))
    }

    fn in_index(&self) -> Condition {
        let (south, north) = self.latitudes;
        let mut around = Condition::any();
        for &(west, east) in self.spans() {
            let corners = [west, south, east, north];
            around = around.add(Expr::cust_with_values("place <@ box(point($1, $2), point($3, $4))", corners));
        }
        let found = Query::select().column("event_id").from("event_search").cond_where(around).take();
        Condition::all().add(event::Column::Id.in_subquery(found))
    }

    fn in_columns(&self) -> Condition {
        use event::Column::{Latitude, Longitude};
        let (south, north) = self.latitudes;
        let around = self.spans().iter().map(|(west, east)| Longitude.between(*west, *east));
        Condition::all()
            .add(Latitude.is_not_null())
            .add(Latitude.between(south, north))
            .add(around.fold(Condition::any(), Condition::add))
    }

    fn spans(&self) -> &[(f64, f64)] {
        let [one, other] = &self.longitudes;
        if one == other { std::slice::from_ref(one) } else { &self.longitudes }
    }
}

/// Degrees of slack, so that rounding never cuts off what the chord would keep.
const SLACK: f64 = 1e-9;

/// Degrees east that a circle of `angle` around a point reaches.
fn longitudes(latitude: f64, longitude: f64, angle: f64) -> [(f64, f64); 2] {
    const ALL: (f64, f64) = (-180.0, 180.0);
    // Where its meridians touch the circle; one that holds a pole, or all but does, reaches them all.
    let reach = angle.sin() / latitude.to_radians().cos();
    if latitude.abs() + angle.to_degrees() > 89.999 || reach >= 1.0 {
        return [ALL; 2];
    }
    let reach = reach.asin().to_degrees() + SLACK;
    let (west, east) = (longitude - reach, longitude + reach);
    if west < -180.0 {
        [(west + 360.0, 180.0), (-180.0, east)]
    } else if east > 180.0 {
        [(west, 180.0), (-180.0, east - 360.0)]
    } else {
        [(west, east); 2]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The haversine formula, as the books have it.
    fn haversine(a: (f64, f64), b: (f64, f64)) -> f64 {
        let (dlat, dlon) = ((b.0 - a.0).to_radians(), (b.1 - a.1).to_radians());
        let h =
            (dlat / 2.0).sin().powi(2) + a.0.to_radians().cos() * b.0.to_radians().cos() * (dlon / 2.0).sin().powi(2);
        2.0 * EARTH_RADIUS_METERS * h.sqrt().clamp(0.0, 1.0).asin()
    }

    fn points() -> impl Strategy<Value = (f64, f64)> {
        // Uniform points alone would hardly ever meet a pole or the antimeridian.
        let latitude = prop_oneof![-90.0..=90.0, 89.0..=90.0, -90.0..=-89.0, Just(90.0), Just(-90.0), Just(0.0)];
        let longitude = prop_oneof![-180.0..=180.0, 179.0..=180.0, -180.0..=-179.0, Just(180.0), Just(-180.0)];
        (latitude, longitude)
    }

    proptest! {
        #[test]
        fn an_area_holds_what_haversine_says_is_near(
            centre in points(), step in (-6.0_f64..6.0, -6.0_f64..6.0), meters in 1..=MAX_RADIUS_METERS, far in points(),
            near in any::<bool>(),
        ) {
            let turn = |degrees: f64| (degrees + 180.0).rem_euclid(360.0) - 180.0;
            let point = if near {
                ((centre.0 + step.0).clamp(-90.0, 90.0), turn(centre.1 + step.1))
            } else {
                far
            };
            let area = GeoRadius::new(centre.0, centre.1, meters).unwrap();
            let distance = haversine(centre, point);
            // Within a millimetre of the edge the two formulas may round differently.
            prop_assume!((distance - f64::from(meters)).abs() > 0.001);
            prop_assert_eq!(area.contains(point.0, point.1), distance < f64::from(meters), "distance {}", distance);
            if area.contains(point.0, point.1) {
                let (south, north) = area.latitudes();
                prop_assert!((south..=north).contains(&point.0));
                prop_assert!(area.spans().iter().any(|(west, east)| (*west..=*east).contains(&point.1)), "{:?}", area);
            }
        }

        #[test]
        fn nothing_out_of_range_is_accepted(latitude in -200.0_f64..200.0, longitude in -400.0_f64..400.0, meters: i32) {
            let expected = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && (1..=500_000).contains(&meters);
            prop_assert_eq!(GeoRadius::new(latitude, longitude, meters).is_ok(), expected);
        }
    }

    #[test]
    fn the_box_is_cut_at_the_antimeridian_and_open_at_a_pole() {
        let reach = |latitude, longitude| GeoRadius::new(latitude, longitude, 100_000).unwrap().spans().to_vec();
        assert!(
            matches!(reach(0.0, 0.0)[..], [(west, east)] if west > -0.91 && east < 0.91 && (west + east).abs() < 1e-9)
        );
        for longitude in [-179.5, 179.5] {
            assert!(
                matches!(reach(0.0, longitude)[..], [(west, 180.0), (-180.0, east)] if west > 178.0 && east < -178.0)
            );
        }
        assert_eq!(reach(89.9, 10.0), [(-180.0, 180.0)]);
        assert_eq!(reach(-90.0, 10.0), [(-180.0, 180.0)]);
    }

    #[test]
    fn a_point_is_near_itself_and_no_number_is_nowhere() {
        assert!(GeoRadius::new(52.5, 13.4, 1).unwrap().contains(52.5, 13.4));
        assert!(GeoRadius::new(90.0, 0.0, 1).unwrap().contains(90.0, 123.0));
        assert!(GeoRadius::new(f64::NAN, 0.0, 1).is_err());
        assert!(GeoRadius::new(0.0, f64::INFINITY, 1).is_err());
        assert!(!GeoRadius::new(0.0, 0.0, 1).unwrap().contains(f64::NAN, 0.0));
    }
}
