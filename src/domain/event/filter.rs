//! What a list of events may be narrowed to.

use entities::{
    event,
    sets::{EventMode, EventStatus, SourceType},
    user,
};
use sea_orm::{
    ColumnTrait, Condition, DbBackend,
    sea_query::{Expr, ExprTrait, Query},
};

use super::geo::GeoRadius;
use crate::{
    domain::{
        account::{self, Actor},
        range::Range,
        tenant::Tenant,
    },
    error::{Error, Result},
};

/// Most accounts that one condition may name.
pub const MAX_ACTORS: usize = 100;

/// Conditions on events, all of which must hold. A list holds for any of its members, and for none when it is empty;
/// what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What words of the name or the description begin with, all of them, as [`search_words`](super::search_words) gives
    /// it. Nothing is asked for when it is empty.
    pub words: Vec<String>,
    /// When it starts.
    pub starts_at: Option<Range>,
    /// When it changed.
    pub updated_at: Option<Range>,
    /// Lifecycle states.
    pub status: Option<Vec<EventStatus>>,
    /// How people attend.
    pub mode: Option<Vec<EventMode>>,
    /// Origins.
    pub source: Option<Vec<SourceType>>,
    /// Organisers; at most [`MAX_ACTORS`].
    pub organizers: Option<Vec<Actor>>,
    /// Whether the organiser is a shadow account.
    pub organized_by_shadow: Option<bool>,
    /// Where it takes place.
    pub near: Option<GeoRadius>,
}

impl Filter {
    /// Rows of `event` that hold; `tenant` is the one whose events are asked for.
    pub(super) fn condition(&self, backend: DbBackend, tenant: Tenant) -> Result<Condition> {
        let organizers =
            self.organizers.as_deref().map(|actors| actors_condition(backend, tenant, actors)).transpose()?;
        Ok(Condition::all()
            .add_option((!self.words.is_empty()).then(|| words_condition(backend, &self.words)))
            .add_option(self.starts_at.map(|range| range.condition(event::Column::StartsAt)))
            .add_option(self.updated_at.map(|range| range.condition(event::Column::UpdatedAt)))
            .add_option(self.status.as_ref().map(|values| event::Column::Status.is_in(values.iter().copied())))
            .add_option(self.mode.as_ref().map(|values| event::Column::Mode.is_in(values.iter().copied())))
            .add_option(self.source.as_ref().map(|values| event::Column::SourceType.is_in(values.iter().copied())))
            .add_option(organizers)
            .add_option(self.organized_by_shadow.map(shadow_condition))
            .add_option(self.near.map(|area| area.condition(backend))))
    }
}

fn actors_condition(backend: DbBackend, tenant: Tenant, actors: &[Actor]) -> Result<Expr> {
    if actors.len() > MAX_ACTORS {
        return Err(Error::invalid("organizers", "TOO_MANY_VALUES", format!("at most {MAX_ACTORS} accounts")));
    }
    Ok(event::Column::UserId.in_subquery(account::ids_of(backend, tenant, actors)))
}

/// Asks for members, of whom an index holds nobody else: an organiser is one or a shadow.
fn shadow_condition(shadow: bool) -> Expr {
    let member = Query::select()
        .expr(Expr::val(1))
        .from(user::Entity)
        .and_where(user::Column::Id.into_expr().equals(event::Column::UserId.as_column_ref()))
        .and_where(user::Column::IsShadowAccount.into_expr().not())
        .take();
    if shadow { Expr::not_exists(member) } else { Expr::exists(member) }
}

/// The words hold neither quotes nor backslashes, so that each stands for itself between quotes.
fn words_condition(backend: DbBackend, words: &[String]) -> Expr {
    let search = |mark: &str, and: &str, beginning: &str| {
        let all: Vec<String> = words.iter().map(|word| format!("{mark}{word}{mark}{beginning}")).collect();
        all.join(and)
    };
    let found = if backend == DbBackend::Postgres {
        let matches = Expr::cust_with_values("words @@ $1::text::tsquery", [search("'", " & ", ":*")]);
        Query::select().column("event_id").from("event_search").and_where(matches).take()
    } else {
        let matches = Expr::cust_with_values("event_search MATCH ?", [search("\"", " ", " *")]);
        Query::select().column("rowid").from("event_search").and_where(matches).take()
    };
    event::Column::Id.in_subquery(found)
}
