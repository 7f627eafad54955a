//! Under which name an operation is counted. Callers choose names freely; labels of a metric must be few.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Names that are learned where none are configured.
const ROOM: usize = 50;
/// Longest name that is learned.
const LONGEST: usize = 100;

pub(super) const ANONYMOUS: &str = "anonymous";
const OTHER: &str = "other";
/// What did not pass the guard has no name that anybody vouches for.
pub(super) const REFUSED: &str = "refused";

/// The names that are labels.
#[derive(Debug)]
pub(super) struct Names {
    known: Mutex<HashSet<Arc<str>>>,
    room: usize,
}

impl Names {
    /// The configured ones; none: the first that come.
    pub(super) fn new(configured: &[String]) -> Self {
        let known = configured.iter().map(|name| Arc::from(name.as_str())).collect();
        Self { known: Mutex::new(known), room: if configured.is_empty() { ROOM } else { 0 } }
    }

    /// The label of an operation.
    pub(super) fn label(&self, name: Option<&str>) -> Arc<str> {
        let Some(name) = name else { return ANONYMOUS.into() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name) {
            return Arc::clone(known);
        }
        if known.len() >= self.room || name.len() > LONGEST {
            return OTHER.into();
        }
        let name: Arc<str> = name.into();
        known.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_whatever_callers_think_of() {
        let names = Names::new(&[]);
        for number in 0..1_000 {
            let expected = if number < ROOM { format!("Q{number}") } else { OTHER.to_owned() };
            assert_eq!(*names.label(Some(&format!("Q{number}"))), *expected);
        }
        assert_eq!((&*names.label(Some("Q7")), &*names.label(None)), ("Q7", ANONYMOUS));
        assert_eq!(&*Names::new(&[]).label(Some(&"x".repeat(101))), OTHER);
    }

    #[test]
    fn who_names_some_counts_those() {
        let names = Names::new(&["Upcoming".to_owned()]);
        assert_eq!((&*names.label(Some("Upcoming")), &*names.label(Some("Feed"))), ("Upcoming", OTHER));
    }
}
