//! What a list of events may be narrowed to.

use entities::{
    event,
    sets::{EventMode, EventStatus, SourceType},
    user,
};
use sea_orm::{
    ColumnTrait, Condition, DbBackend,
    sea_query::{Expr, ExprTrait, LikeExpr, Query},
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

/// Most words of a text search.
pub const MAX_WORDS: usize = 8;

/// Most accounts that one condition may name.
pub const MAX_ACTORS: usize = 100;

/// Conditions on events, all of which must hold. A list holds for any of its members, and for none when it is empty;
/// what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Folded words (see [`search_words`]), each of which occurs in the name or the description.
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
        let mut all = Condition::all();
        for word in &self.words {
            all = all.add(event::Column::SearchText.into_expr().like(containing(word)));
        }
        let organizers =
            self.organizers.as_deref().map(|actors| actors_condition(backend, tenant, actors)).transpose()?;
        Ok(all
            .add_option(self.starts_at.map(|range| range.condition(event::Column::StartsAt)))
            .add_option(self.updated_at.map(|range| range.condition(event::Column::UpdatedAt)))
            .add_option(self.status.as_ref().map(|values| event::Column::Status.is_in(values.iter().copied())))
            .add_option(self.mode.as_ref().map(|values| event::Column::Mode.is_in(values.iter().copied())))
            .add_option(self.source.as_ref().map(|values| event::Column::SourceType.is_in(values.iter().copied())))
            .add_option(organizers)
            .add_option(self.organized_by_shadow.map(shadow_condition))
            .add_option(self.near.map(|area| area.condition())))
    }
}

fn actors_condition(backend: DbBackend, tenant: Tenant, actors: &[Actor]) -> Result<Expr> {
    if actors.len() > MAX_ACTORS {
        return Err(Error::invalid("organizers", "TOO_MANY_VALUES", format!("at most {MAX_ACTORS} accounts")));
    }
    Ok(event::Column::UserId.in_subquery(account::ids_of(backend, tenant, actors)))
}

fn shadow_condition(shadow: bool) -> Expr {
    let organizer = Query::select()
        .expr(Expr::val(1))
        .from(user::Entity)
        .and_where(user::Column::Id.into_expr().equals(event::Column::UserId.as_column_ref()))
        .and_where(user::Column::IsShadowAccount.eq(shadow))
        .take();
    Expr::exists(organizer)
}

/// Text in the form that `event.search_text` holds: lower case, with single spaces.
///
/// Accents stay, because removing them would make different words of many languages equal.
pub fn fold_search(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(&word.to_lowercase());
    }
    folded
}

/// The words of a search, folded as the searched text is.
///
/// Errors: [`Error::Invalid`] naming `query` for more than [`MAX_WORDS`] words or 200 characters.
pub fn search_words(query: &str) -> Result<Vec<String>> {
    if query.chars().count() > 200 {
        return Err(Error::invalid("query", "QUERY_TOO_LONG", "at most 200 characters"));
    }
    let words: Vec<String> = fold_search(query).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.len() > MAX_WORDS {
        return Err(Error::invalid("query", "QUERY_TOO_LONG", format!("at most {MAX_WORDS} words")));
    }
    Ok(words)
}

/// The pattern that finds a word literally anywhere.
fn containing(word: &str) -> LikeExpr {
    // Not a backslash: the databases quote it differently in the ESCAPE clause.
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for character in word.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('!')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_folded_is_found(before in "\\PC{0,20}", word in "[\\w%_!\\\\]{1,10}", after in "\\PC{0,20}") {
            let text = fold_search(&format!("{before}{word}{after}"));
            for found in search_words(&word).unwrap() {
                // The final sigma is the one letter whose lower case depends on its place.
                prop_assume!(!word.contains('Σ'));
                prop_assert!(text.contains(&found), "{text:?} {found:?}");
            }
        }

        #[test]
        fn folding_is_stable(text in ".*") {
            let once = fold_search(&text);
            prop_assert!(!once.contains("  ") && once.trim() == once);
            prop_assert_eq!(fold_search(&once), once);
        }
    }

    #[test]
    fn a_search_is_bounded() {
        assert_eq!(search_words("  Rust   MEETUP ").unwrap(), ["rust", "meetup"]);
        assert!(search_words("").unwrap().is_empty());
        assert!(search_words("a b c d e f g h i").is_err());
        assert!(search_words(&"x".repeat(201)).is_err());
    }
}
