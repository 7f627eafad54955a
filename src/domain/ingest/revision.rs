//! Revisions of what nobody gave one.
//!
//! What programs bring of their own is ordered by time: the one they tell, or that of its arrival. A copy of a record of the
//! network without its revision is a guess about when it was written. A guess begins with a character that is less than
//! those of every revision: so the network's own record takes the place of the copy, whenever it comes, and no copy
//! takes the place of the record.

use chrono::{DateTime, Utc};

use crate::infra::atproto::syntax::{tid_after, tid_of};

/// What a guess begins with.
const GUESS: &str = "0";

/// A revision that is only guessed.
pub(super) fn as_guess(rev: &str) -> String {
    if is_guess(rev) { rev.to_owned() } else { format!("{GUESS}{rev}") }
}

/// Whether a revision is a guess.
pub(super) fn is_guess(rev: &str) -> bool {
    rev.starts_with(GUESS)
}

/// The revision of what was written then.
pub(super) fn at(instant: DateTime<Utc>, guess: bool) -> String {
    if guess { as_guess(&tid_of(instant)) } else { tid_of(instant) }
}

/// The revision of what arrives now, after what is held: later than it, however the clocks stand. A guess is later than
/// guesses only.
pub(super) fn arriving(now: DateTime<Utc>, held: Option<&str>, guess: bool) -> String {
    let rev = at(now, guess);
    match held {
        Some(held) if held >= rev.as_str() && is_guess(held) == guess => {
            let tid = held.strip_prefix(GUESS).unwrap_or(held);
            if guess { as_guess(&tid_after(tid)) } else { tid_after(tid) }
        }
        _ => rev,
    }
}

/// The revision of a deletion that arrives now: of what is held, in its own terms.
pub(super) fn deleting(now: DateTime<Utc>, held: &str) -> String {
    arriving(now, Some(held), is_guess(held))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instant(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    proptest! {
        #[test]
        fn what_arrives_is_later_than_what_is_held(now in 0_i64..1 << 52, held in 0_i64..1 << 52, guess: bool) {
            let held = at(instant(held), guess);
            let first = arriving(instant(now), Some(&held), guess);
            let second = arriving(instant(now), Some(&first), guess);
            prop_assert!(held < first && first < second, "{held} {first} {second}");
            prop_assert!(held < deleting(instant(now), &held));
        }

        #[test]
        fn a_guess_never_outranks_a_revision(now in 0_i64..1 << 52, held in 0_i64..1 << 52) {
            let rev = at(instant(held), false);
            prop_assert!(arriving(instant(now), Some(&rev), true) < rev);
            prop_assert!(at(instant(now), true) < rev);
        }
    }
}
