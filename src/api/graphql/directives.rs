//! Directives that describe fields; nothing executes them, but the guard reads `@cost` from the printed schema.

use async_graphql::TypeDirective;

/// Null appears here only together with an entry in `errors` (semantic nullability).
#[TypeDirective(location = "FieldDefinition")]
pub(crate) fn semanticNonNull(
    #[graphql(desc = "List levels the promise applies to; 0 is the field itself.", default_with = "vec![0]")]
    levels: Vec<i32>,
) {
}

/// Documents how a field is charged: `weight`, plus its children once for each item that the arguments named in
/// `multipliers` ask for.
#[TypeDirective(location = "FieldDefinition")]
pub(crate) fn cost(
    #[graphql(desc = "Points charged for the field itself.", default = 1)] weight: i32,
    #[graphql(desc = "Arguments whose value multiplies the cost of the children.")] multipliers: Option<Vec<String>>,
) {
}

/// The multipliers of every connection.
pub(crate) fn page_size() -> Vec<String> {
    vec!["first".to_owned(), "last".to_owned()]
}
