//! A span of time, either end of which may be open.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition};

/// A span of time. An unknown instant lies in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
}

impl Range {
    /// Rows whose column lies inside.
    pub(crate) fn condition(&self, column: impl ColumnTrait) -> Condition {
        Condition::all()
            .add(column.is_not_null())
            .add_option(self.from.map(|from| column.gte(from)))
            .add_option(self.to.map(|to| column.lt(to)))
    }
}
