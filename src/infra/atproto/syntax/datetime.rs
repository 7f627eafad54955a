//! Datetimes as people really write them.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};

/// Longest datetime of the protocol.
const MAX_STRICT_BYTES: usize = 64;
const MAX_BYTES: usize = 128;

/// Reads a datetime: the instant, cut to microseconds, and whether the text obeys the protocol (RFC 3339 and ISO 8601
/// with seconds, upper-case T and Z, a time zone other than -00:00).
///
/// Lenient beyond that: any case, a space for T, missing seconds, a leap second (the second before it), a missing time
/// zone (UTC), offsets without colon or minutes, a date alone (midnight UTC), blanks around. `None` when no instant in
/// the years 1 to 9999 is meant. Keep the text: it is the truth, the instant is a reading of it.
pub fn parse_datetime(text: &str) -> Option<(DateTime<Utc>, bool)> {
    let trimmed = text.trim();
    if trimmed.len() > MAX_BYTES {
        return None;
    }
    let mut reader = Reader { rest: trimmed.as_bytes(), strict: trimmed == text && text.len() <= MAX_STRICT_BYTES };
    let date = reader.date()?;
    let (time, offset) = if reader.rest.is_empty() {
        reader.strict = false;
        (NaiveTime::MIN, TimeDelta::zero())
    } else {
        match reader.byte()? {
            b'T' => {}
            b't' | b' ' => reader.strict = false,
            _ => return None,
        }
        (reader.time()?, reader.offset()?)
    };
    let instant = date.and_time(time).checked_sub_signed(offset)?.and_utc();
    (reader.rest.is_empty() && is_storable(instant)).then_some((instant, reader.strict))
}

/// Whether an instant lies in the years 1 to 9999, which every database and every text form can keep.
pub fn is_storable(instant: DateTime<Utc>) -> bool {
    (1..=9999).contains(&instant.year())
}

struct Reader<'a> {
    rest: &'a [u8],
    strict: bool,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Takes the byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.byte();
        }
        found
    }

    /// Exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 10 + self.digit()?;
        }
        Some(value)
    }

    fn digit(&mut self) -> Option<u32> {
        let digit = char::from(*self.rest.first()?).to_digit(10)?;
        self.byte();
        Some(digit)
    }

    fn date(&mut self) -> Option<NaiveDate> {
        let year = i32::try_from(self.number(4)?).ok()?;
        let month = self.take(b'-').then(|| self.number(2))??;
        let day = self.take(b'-').then(|| self.number(2))??;
        NaiveDate::from_ymd_opt(year, month, day)
    }

    fn time(&mut self) -> Option<NaiveTime> {
        let hour = self.number(2)?;
        let minute = self.take(b':').then(|| self.number(2))??;
        let (mut second, mut micros) = (0, 0);
        if self.take(b':') {
            second = self.number(2)?;
            if self.take(b'.') {
                micros = self.fraction()?;
            }
        } else {
            self.strict = false;
        }
        if second == 60 {
            self.strict = false;
            second = 59;
        }
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros)
    }

    /// At least one digit; those past the sixth are dropped.
    fn fraction(&mut self) -> Option<u32> {
        let mut micros = self.digit()? * 100_000;
        let mut scale = 10_000;
        while let Some(digit) = self.digit() {
            micros += digit * scale;
            scale /= 10;
        }
        Some(micros)
    }

    fn offset(&mut self) -> Option<TimeDelta> {
        let Some(sign) = self.byte() else {
            self.strict = false;
            return Some(TimeDelta::zero());
        };
        match sign {
            b'Z' => return Some(TimeDelta::zero()),
            b'z' => {
                self.strict = false;
                return Some(TimeDelta::zero());
            }
            b'+' | b'-' => {}
            _ => return None,
        }
        let hours = self.number(2)?;
        let minutes = if self.take(b':') {
            self.number(2)?
        } else {
            self.strict = false;
            if self.rest.is_empty() { 0 } else { self.number(2)? }
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = TimeDelta::minutes(i64::from(hours * 60 + minutes));
        if sign == b'-' {
            self.strict &= !offset.is_zero();
            return Some(-offset);
        }
        Some(offset)
    }
}
