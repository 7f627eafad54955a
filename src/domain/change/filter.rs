//! What a consumer of the change log wants to see.
//!
//! A filter has two forms that agree: [`Filter::matches`] looks at one row, for the fan-out in memory, and
//! [`Filter::condition`] narrows a query. Around a point the condition lets more through than `matches` does, because
//! rows of the log do not carry what distances are computed with in SQL; so whoever reads with it asks `matches` too.

use entities::{
    change,
    sets::{ChangeOperation, SourceType},
};
use sea_orm::{ColumnTrait, Condition, DbBackend};

use crate::{
    domain::{event::GeoRadius, range::Range},
    infra::db::among,
};

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
    /// When the event starts, in whole microseconds as the database keeps them; without a start it never matches.
    pub starts_at: Option<Range>,
    /// Where the event takes place; one without a known point never matches.
    pub near: Option<GeoRadius>,
}

impl Filter {
    /// Whether a change is wanted.
    pub fn matches(&self, row: &change::Model) -> bool {
        any(self.source.as_ref(), Some(&row.source_type))
            && any(self.operation.as_ref(), Some(&row.operation))
            && any(self.organizers.as_ref(), row.organizer_did.as_ref())
            && self.starts_at.is_none_or(|range| {
                let inside =
                    |start| range.from.is_none_or(|from| from <= start) && range.to.is_none_or(|to| start < to);
                row.starts_at.is_some_and(inside)
            })
            && self.near.is_none_or(|area| {
                row.latitude.zip(row.longitude).is_some_and(|(latitude, longitude)| area.contains(latitude, longitude))
            })
    }

    /// Lets through every row that [matches](Self::matches), and, around a point, some more.
    pub(super) fn condition(&self, backend: DbBackend) -> Condition {
        let latitudes = self.near.map(|area| area.latitudes());
        Condition::all()
            .add_option(self.source.as_ref().map(|all| change::Column::SourceType.is_in(all.iter().copied())))
            .add_option(self.operation.as_ref().map(|all| change::Column::Operation.is_in(all.iter().copied())))
            .add_option(self.organizers.as_ref().map(|all| among(backend, change::Column::OrganizerDid, all.clone())))
            .add_option(self.starts_at.map(|range| range.condition(change::Column::StartsAt)))
            .add_option(latitudes.map(|(south, north)| change::Column::Latitude.between(south, north)))
    }
}

fn any<T: PartialEq>(wanted: Option<&Vec<T>>, value: Option<&T>) -> bool {
    wanted.is_none_or(|wanted| value.is_some_and(|value| wanted.contains(value)))
}
