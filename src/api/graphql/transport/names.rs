//! Under which name an operation is counted. Callers choose names freely; labels of a metric are a closed set.

use std::{collections::HashSet, sync::Arc};

pub(super) const ANONYMOUS: &str = "anonymous";
const OTHER: &str = "other";
/// What did not pass the guard has no name that anybody vouches for.
pub(super) const REFUSED: &str = "refused";

/// The names that are labels.
#[derive(Debug)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    anonymous: Arc<str>,
    other: Arc<str>,
}

impl Names {
    /// The configured ones.
    pub(super) fn new(configured: &[String]) -> Self {
        let known = configured.iter().map(|name| Arc::from(name.as_str())).collect();
        Self { known, anonymous: ANONYMOUS.into(), other: OTHER.into() }
    }

    /// The label of an operation.
    pub(super) fn label(&self, name: Option<&str>) -> Arc<str> {
        Arc::clone(name.map_or(&self.anonymous, |name| self.known.get(name).unwrap_or(&self.other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_configured_whatever_callers_think_of() {
        let names = Names::new(&["Upcoming".to_owned()]);
        for stranger in ["Feed", "upcoming", "Upcoming2", "", ANONYMOUS, REFUSED] {
            assert_eq!(&*names.label(Some(stranger)), OTHER, "{stranger}");
        }
        assert_eq!((&*names.label(Some("Upcoming")), &*names.label(None)), ("Upcoming", ANONYMOUS));
        assert_eq!(&*Names::new(&[]).label(Some("Upcoming")), OTHER);
    }
}
