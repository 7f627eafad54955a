//! A position in the change log, as clients keep it.

use std::{fmt, str::FromStr};

use entities::change;

use crate::{domain::cursor, error::Error};

/// Which log, and the format's version. Another meaning of the number takes another letter.
const LOG: &str = "c1";

/// A position in the change log: everything up to and including it has been seen. Cursors are ordered as the log is and
/// stay valid over restarts, until retention has deleted changes behind them.
///
/// As text (`Display`, `FromStr`) a cursor is opaque and URL-safe. Every cursor has exactly one text, so that texts can be
/// compared for equality. Parsing anything else is `Error::Invalid` with the code `CURSOR_INVALID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(i64);

impl Cursor {
    /// The position of a row.
    pub fn of(row: &change::Model) -> Self {
        Self(row.id)
    }

    /// The position of this number.
    pub fn at(position: i64) -> Self {
        Self::new(position)
    }

    /// Its number: it grows along the log.
    pub fn position(self) -> i64 {
        self.0
    }

    pub(super) fn new(id: i64) -> Self {
        Self(id.max(0))
    }

    pub(super) fn id(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cursor::write(LOG, self.0))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        cursor::read(LOG, text).map(Self).ok_or_else(|| invalid("it is not a cursor of this stream"))
    }
}

pub(super) fn invalid(why: &'static str) -> Error {
    Error::invalid("after", "CURSOR_INVALID", why)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::cursor::LONGEST;

    fn text_of(inner: &str) -> String {
        BASE64URL_NOPAD.encode(inner.as_bytes())
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(id in 0..=i64::MAX) {
            let text = Cursor::new(id).to_string();
            prop_assert!(text.len() <= LONGEST);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(text.parse::<Cursor>().unwrap(), Cursor::new(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn cursors_are_ordered_as_the_log(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            prop_assert_eq!(Cursor::new(a).cmp(&Cursor::new(b)), a.cmp(&b));
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_refused_with_its_code() {
        let texts = ["", "c1:7", "YzE6Nw==", &text_of("c2:7"), &text_of("c1:"), &text_of("c1:-7"), &text_of("c1:+7")];
        let more = [&text_of("c1:007"), &text_of("c1:9223372036854775808"), &text_of("c1:7 "), &"A".repeat(5000)];
        for text in texts.into_iter().chain(more.map(String::as_str)) {
            let error = text.parse::<Cursor>().unwrap_err();
            assert_eq!(error.reason(), "CURSOR_INVALID", "{text}");
        }
        assert_eq!(text_of("c1:7").parse::<Cursor>().unwrap(), Cursor::new(7));
    }
}
