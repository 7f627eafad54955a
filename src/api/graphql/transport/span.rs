//! The spans of operations: which one it is, of whom, and how it went.

use tracing::{Span, field::Empty, info_span};

use super::{names::ANONYMOUS, run::Prepared};
use crate::telemetry::{caused, is_collected};

/// Longest name of an operation that is told.
const LONGEST: usize = 100;

/// Who sent an operation, as far as spans need to know; left in its data by whoever knows senders.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Number of the tenant that is meant.
    pub(crate) tenant: i64,
    /// Who it is; none for nobody in particular.
    pub(crate) name: Option<String>,
}

/// Of a query or a mutation, which is over soon.
pub(super) fn of_execution(prepared: &Prepared, kind: &'static str) -> Span {
    let sender = prepared.named();
    let span = info_span!(
        "graphql.execute",
        trace_id = Empty,
        operation = shown(prepared.recipe.operation()),
        operation_type = kind,
        tenant = sender.map(|sender| sender.tenant),
        caller = sender.and_then(|sender| sender.name.as_deref()),
        cost = prepared.cost,
        code = Empty,
    );
    caused(span, prepared.cause.as_deref())
}

/// Of a subscription, until its subscriber has it no more. Thousands are open at once, and nothing is logged in them that their
/// events do not say: so there is none without a collector.
pub(super) fn of_subscription(prepared: &Prepared) -> Span {
    if !is_collected() {
        return Span::none();
    }
    let sender = prepared.named();
    let span = info_span!(
        "graphql.subscribe",
        trace_id = Empty,
        operation = shown(prepared.recipe.operation()),
        transport = prepared.transport.as_str(),
        tenant = sender.map(|sender| sender.tenant),
        caller = sender.and_then(|sender| sender.name.as_deref()),
        is_shared = prepared.wish.is_some(),
        code = Empty,
        results = Empty,
    );
    caused(span, prepared.cause.as_deref())
}

/// The caller's own name for it: in a span it may be any.
fn shown(name: Option<&str>) -> &str {
    let name = name.unwrap_or(ANONYMOUS);
    // Names are ASCII: the document was read.
    name.get(..LONGEST).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_name_itself_within_bounds() {
        assert_eq!((shown(Some("Feed")), shown(None)), ("Feed", ANONYMOUS));
        assert_eq!(shown(Some(&"x".repeat(101))), "x".repeat(100));
    }
}
