//! A pass over the text of a document before the parser sees it.
//!
//! The parser of the library recurses once per bracket and aborts the process when the stack ends, so brackets of every
//! kind are counted here, in one loop without recursion. The same pass counts tokens, bounds names (errors repeat them)
//! and writes escapes that the parser doesn't know, `\u{1F600}` and surrogate pairs, as it knows them; so columns behind
//! such an escape are those of the shorter text. Anything else that is wrong is left to the parser.

use std::{borrow::Cow, fmt::Write as _};

use async_graphql::Pos;

use super::{
    Limits,
    refusal::{Code, ECHO, Refusal},
};

/// The text as the parser understands it. Refuses one that is too large, nested too deep, or cannot be split into tokens.
pub(super) fn scan<'a>(text: &'a str, limits: &Limits) -> Result<Cow<'a, str>, Refusal> {
    let mut lexer =
        Lexer { source: text, text: text.as_bytes(), at: 0, tokens: 0, open: Vec::new(), out: String::new(), taken: 0 };
    lexer.run(limits).map_err(|(refusal, offset)| refusal.at(position(text, offset)))?;
    if lexer.taken == 0 {
        return Ok(Cow::Borrowed(text));
    }
    lexer.out.push_str(text.get(lexer.taken..).unwrap_or_default());
    Ok(Cow::Owned(lexer.out))
}

struct Lexer<'a> {
    source: &'a str,
    text: &'a [u8],
    /// What was rewritten so far, for the first `taken` bytes of the text.
    out: String,
    taken: usize,
    at: usize,
    tokens: usize,
    /// The closers that are still to come, innermost last.
    open: Vec<u8>,
}

/// Words that the parser takes for values whatever follows.
const LITERALS: [&[u8]; 3] = [b"true", b"false", b"null"];

type Scan<T = ()> = Result<T, (Refusal, usize)>;

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn starts_with(&self, what: &[u8]) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(what))
    }

    fn fail<T>(&self, code: Code, message: &str) -> Scan<T> {
        Err((Refusal::new(code, message), self.at))
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn run(&mut self, limits: &Limits) -> Scan {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b',' | b'\n' | b'\r' => self.at += 1,
                0xEF if self.starts_with("\u{feff}".as_bytes()) => self.at += 3,
                b'#' => {
                    self.skip_while(|b| b != b'\n' && b != b'\r');
                }
                _ => {
                    self.tokens += 1;
                    if self.tokens > limits.max_tokens {
                        return self.fail(Code::TooLarge, &format!("more than {} tokens", limits.max_tokens));
                    }
                    self.token(byte, limits)?;
                }
            }
        }
        if self.open.is_empty() { Ok(()) } else { self.fail(Code::ParseFailed, "bracket not closed") }
    }

    fn token(&mut self, byte: u8, limits: &Limits) -> Scan {
        match byte {
            b'{' | b'[' | b'(' => {
                if self.open.len() >= limits.max_nesting {
                    return self.fail(Code::TooDeep, &format!("brackets nested deeper than {}", limits.max_nesting));
                }
                self.open.push(match byte {
                    b'{' => b'}',
                    b'[' => b']',
                    _ => b')',
                });
                self.at += 1;
            }
            // A closer of the wrong kind is refused, so that nothing can make the count look smaller than the nesting.
            b'}' | b']' | b')' => {
                if self.open.pop() != Some(byte) {
                    return self.fail(Code::ParseFailed, "bracket closed that was not open");
                }
                self.at += 1;
            }
            b'"' if self.starts_with(b"\"\"\"") => self.block_string()?,
            b'"' => self.string()?,
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let start = self.at;
                // To the parser `truefalse` is two values, where values stand.
                let literal = LITERALS.iter().find(|literal| self.starts_with(literal));
                if self.skip_while(is_word) > ECHO {
                    return self.fail(Code::TooLarge, &format!("name longer than {ECHO} characters"));
                }
                if let Some(literal) = literal {
                    self.at = start + literal.len();
                }
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'.' if self.starts_with(b"...") => self.at += 3,
            b'!' | b'$' | b'&' | b':' | b'=' | b'@' | b'|' => self.at += 1,
            _ => return self.fail(Code::ParseFailed, "unexpected character"),
        }
        Ok(())
    }

    /// Ends where the parser ends it, who needs nothing between numbers: `1-1` and `00` are two.
    fn number(&mut self) {
        if self.peek(0) == Some(b'-') {
            self.at += 1;
        }
        if self.peek(0) == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_while(is_digit);
        }
        if self.peek(0) == Some(b'.') && self.peek(1).is_some_and(is_digit) {
            self.at += 1;
            self.skip_while(is_digit);
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let digits = if matches!(self.peek(1), Some(b'+' | b'-')) { 2 } else { 1 };
            if self.peek(digits).is_some_and(is_digit) {
                self.at += digits;
                self.skip_while(is_digit);
            }
        }
    }

    fn block_string(&mut self) -> Scan {
        self.at += 3;
        loop {
            if self.starts_with(b"\\\"\"\"") {
                self.at += 4;
            } else if self.starts_with(b"\"\"\"") {
                self.at += 3;
                return Ok(());
            } else {
                match self.peek(0) {
                    Some(0) => return self.fail(Code::BadInput, "NUL in a string"),
                    Some(_) => self.at += 1,
                    None => return self.fail(Code::ParseFailed, "block string not closed"),
                }
            }
        }
    }

    fn string(&mut self) -> Scan {
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                None | Some(b'\n' | b'\r') => return self.fail(Code::ParseFailed, "string not closed"),
                Some(0) => return self.fail(Code::BadInput, "NUL in a string"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scan {
        match self.peek(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => self.unicode()?,
            _ => return self.fail(Code::ParseFailed, "unknown escape in a string"),
        }
        Ok(())
    }

    /// A character by its number: four digits, two times four for a surrogate pair, or any number of them in braces.
    fn unicode(&mut self) -> Scan {
        let braced = self.peek(2) == Some(b'{');
        let Some((number, mut length)) = self.code_point(0) else {
            let message = "unicode escape without four hexadecimal digits, or some in braces, of a character";
            return self.fail(Code::ParseFailed, message);
        };
        let mut character = char::from_u32(number);
        if !braced && (0xD800..=0xDBFF).contains(&number) && self.peek(length + 2) != Some(b'{') {
            // Half of a character outside the basic plane, as JSON writes it.
            if let Some((low @ 0xDC00..=0xDFFF, more)) = self.code_point(length) {
                character = char::from_u32(0x1_0000 + ((number - 0xD800) << 10) + (low - 0xDC00));
                length += more;
            }
        }
        match character {
            None => return self.fail(Code::ParseFailed, "half of a surrogate pair in a string"),
            // PostgreSQL cannot hold it, and no text means it.
            Some('\0') => return self.fail(Code::BadInput, "NUL in a string"),
            Some(character) if braced || length > 6 => {
                self.out.push_str(self.source.get(self.taken..self.at).unwrap_or_default());
                match u32::from(character) {
                    // Not the character itself, which may be a quotation mark or a line break.
                    basic @ ..=0xFFFF => write!(self.out, "\\u{basic:04x}").unwrap_or_default(),
                    _ => self.out.push(character),
                }
                self.taken = self.at + length;
            }
            Some(_) => {}
        }
        self.at += length;
        Ok(())
    }

    /// The number and the length of an escape that many bytes ahead.
    fn code_point(&self, ahead: usize) -> Option<(u32, usize)> {
        let digits = self.text.get(self.at + ahead..)?.strip_prefix(b"\\u")?;
        let Some(braced) = digits.strip_prefix(b"{") else { return Some((hexadecimal(digits.get(..4)?)?, 6)) };
        let end = braced.iter().position(|digit| !digit.is_ascii_hexdigit())?;
        let number = hexadecimal(braced.get(..end)?)?;
        (braced.get(end) == Some(&b'}') && number <= u32::from(char::MAX)).then_some((number, end + 4))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let add = |number: u32, digit: &u8| number.checked_mul(16)?.checked_add(char::from(*digit).to_digit(16)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> Pos {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Pos { line: 1 + before.matches('\n').count(), column: 1 + line.chars().count() }
}
