//! Which part of a list is wanted, and the text of a position in it.

use data_encoding::BASE64URL_NOPAD;

use crate::error::{Error, Result};

/// Rows of a page when nobody says how many.
const DEFAULT_SIZE: u32 = 20;

/// Where a row stands in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Value of the sort column: microseconds since 1970, or a number; none where the row has none.
    pub key: Option<i64>,
    /// Id of the row.
    pub id: i64,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Most rows, at least one.
    pub size: u64,
    /// Take them from the end.
    pub backward: bool,
    /// Only rows behind this position.
    pub after: Option<Position>,
    /// Only rows before this position.
    pub before: Option<Position>,
}

/// What somebody asks for, in the terms of Relay: rows from the start or from the end, between two cursors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Number of rows from the start.
    pub first: Option<i32>,
    /// Only behind this cursor.
    pub after: Option<String>,
    /// Number of rows from the end; excludes `first`.
    pub last: Option<i32>,
    /// Only before this cursor.
    pub before: Option<String>,
}

impl Wanted {
    /// The number of rows, and whether they are counted from the end.
    pub(super) fn size(&self, max: u32) -> Result<(u64, bool)> {
        let size = |value: i32, field: &'static str| match u32::try_from(value) {
            Ok(size) if (1..=max).contains(&size) => Ok(u64::from(size)),
            _ => Err(Error::invalid(field, "PAGE_SIZE_OUT_OF_RANGE", format!("it must lie between 1 and {max}"))),
        };
        match (self.first, self.last) {
            (Some(_), Some(_)) => Err(Error::invalid("last", "PAGE_AMBIGUOUS", "first and last exclude each other")),
            (None, Some(last)) => Ok((size(last, "last")?, true)),
            (Some(first), None) => Ok((size(first, "first")?, false)),
            (None, None) => Ok((DEFAULT_SIZE.min(max).into(), false)),
        }
    }
}

/// The opaque text of a position: tag of the order, whether there is a key, key, id.
pub(super) fn encode_cursor(tag: u8, position: Position) -> String {
    let mut bytes = vec![tag, u8::from(position.key.is_some())];
    bytes.extend(position.key.unwrap_or_default().to_be_bytes());
    bytes.extend(position.id.to_be_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// The position that a text stands for, if it is one of this order. Each position has one text.
pub(super) fn decode_cursor(tag: u8, text: &str) -> Option<Position> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (key, id) = rest.split_first_chunk::<8>()?;
    let id = i64::from_be_bytes(id.try_into().ok()?);
    let key = match (head[1], i64::from_be_bytes(*key)) {
        (1, key) => Some(key),
        (0, 0) => None,
        _ => return None,
    };
    (head[0] == tag).then_some(Position { key, id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_in_its_own_order_only(tag: u8, other: u8, key: Option<i64>, id: i64) {
            let position = Position { key, id };
            let text = encode_cursor(tag, position);
            prop_assert_eq!(decode_cursor(tag, &text), Some(position));
            prop_assert_eq!(decode_cursor(other, &text), (other == tag).then_some(position));
        }

        #[test]
        fn a_position_has_one_text(tag: u8, text in "[A-Za-z0-9_=-]{20,26}|.*") {
            if let Some(position) = decode_cursor(tag, &text) {
                prop_assert_eq!(encode_cursor(tag, position), text);
            }
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let wanted = |first, last| Wanted { first, last, ..Wanted::default() };
        assert_eq!(wanted(None, None).size(100).unwrap(), (20, false));
        assert_eq!(wanted(None, None).size(10).unwrap(), (10, false));
        assert_eq!(wanted(Some(100), None).size(100).unwrap(), (100, false));
        assert_eq!(wanted(None, Some(1)).size(100).unwrap(), (1, true));
        for (first, last) in [(Some(0), None), (Some(-1), None), (Some(101), None), (None, Some(0)), (Some(1), Some(1))]
        {
            assert!(wanted(first, last).size(100).is_err(), "{first:?} {last:?}");
        }
    }
}
