//! Directives that describe fields; nothing executes them, but the guard reads `@cost` from the printed schema.

use async_graphql::{Enum, TypeDirective};

/// Null appears here only together with an entry in `errors` (semantic nullability).
#[TypeDirective(location = "FieldDefinition")]
pub(crate) fn semanticNonNull(
    #[graphql(desc = "List levels the promise applies to; 0 is the field itself.", default_with = "vec![0]")]
    levels: Vec<i32>,
) {
}

/// Permission a caller may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum AccessScope {
    /// Anybody who is signed in; what it does concerns that person alone.
    User,
    /// An administrator of the tenant: a service key with that right, or a person to whom it was granted or who is configured.
    Admin,
}

/// Documents the access the caller needs. Enforced by the server; shown for tooling.
#[TypeDirective(location = "FieldDefinition")]
pub(crate) fn access(#[graphql(desc = "Scopes of which the caller needs at least one.")] scopes: Vec<AccessScope>) {}

/// What a caller is charged: for a field `weight`, plus its children once for each item that the arguments named in
/// `multipliers` ask for (but those with `once` a single time); for a field of an input, or a value of an enumeration,
/// `weight` more wherever it is given.
#[TypeDirective(location = "FieldDefinition", location = "InputFieldDefinition", location = "EnumValue")]
pub(crate) fn cost(
    #[graphql(desc = "Points charged.", default = 1)] weight: i32,
    #[graphql(desc = "Arguments whose value multiplies the cost of the children.")] multipliers: Option<Vec<String>>,
    #[graphql(desc = "Charged for the list as a whole: no argument of the parent multiplies it.")] once: Option<bool>,
) {
}

/// Points for reading rows in the order of an index until enough of them match: the more, the rarer the matches. What
/// counting them costs, too.
pub(crate) const SIFT: i32 = 50;

/// Points for what may look at every row, as a word that stands in every text does: an expensive operation, whatever else
/// it asks for.
pub(crate) const SCAN: i32 = 1_000;

/// The multipliers of every connection.
pub(crate) fn page_size() -> Vec<String> {
    vec!["first".to_owned(), "last".to_owned()]
}
