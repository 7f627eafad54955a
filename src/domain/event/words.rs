//! The words of a text, cut the same way for the searched and the searching side, and for both databases: their own ideas
//! of a word differ, so they are only handed words with spaces between them.
//!
//! A word is a run of letters, digits and the marks that belong to them, in lower case; at its end it keeps `+` and `#`,
//! as in C++ and C#. Accents stay, because removing them would make different words of many languages equal. A symbol,
//! such as an emoji, is a word of its own, since people put it right beside another one. Text of scripts that write no
//! spaces becomes the pairs of its neighbours: whoever asks for two or more characters asks for their pairs, so a text
//! that holds all pairs far apart is found too.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// Most words of a text search.
pub const MAX_WORDS: usize = 8;

/// Most characters of a text search.
const MAX_QUERY: usize = 200;

/// Characters of a word that count; the index could not hold words of any length.
const MAX_WORD: usize = 64;

/// How `+` and `#` at the end of a word are counted: `C++`, and no underline drawn with them.
const MAX_SIGNS: usize = 2;

/// Scripts that write no spaces: Thai and Lao, Burmese, Khmer, kana, Han.
const UNSPACED: [(char, char); 11] = [
    ('\u{0e01}', '\u{0edf}'),
    ('\u{1000}', '\u{109f}'),
    ('\u{1780}', '\u{17d3}'),
    ('\u{3005}', '\u{3007}'),
    ('\u{3041}', '\u{309f}'),
    ('\u{30a1}', '\u{30fa}'),
    ('\u{30fc}', '\u{30ff}'),
    ('\u{3400}', '\u{9fff}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{ff66}', '\u{ff9f}'),
    ('\u{20000}', '\u{3ffff}'),
];

/// Marks that are part of a word, though by themselves they are neither letter nor digit.
const MARKS: [(char, char); 15] = [
    ('\u{0300}', '\u{036f}'),
    ('\u{0483}', '\u{0489}'),
    ('\u{0591}', '\u{05bd}'),
    ('\u{05bf}', '\u{05c7}'),
    ('\u{0610}', '\u{061a}'),
    ('\u{064b}', '\u{065f}'),
    ('\u{06d6}', '\u{06ed}'),
    ('\u{0900}', '\u{0963}'),
    ('\u{0981}', '\u{0df3}'),
    ('\u{0f18}', '\u{0fbc}'),
    ('\u{135d}', '\u{135f}'),
    ('\u{1ab0}', '\u{1aff}'),
    ('\u{1dc0}', '\u{1dff}'),
    ('\u{20d0}', '\u{20ff}'),
    ('\u{fe20}', '\u{fe2f}'),
];

/// Punctuation beyond ASCII, by block; letters and digits that stand among it are told apart before.
const PUNCTUATION: [(char, char); 18] = [
    ('\u{0080}', '\u{00bf}'),
    ('\u{00d7}', '\u{00d7}'),
    ('\u{00f7}', '\u{00f7}'),
    ('\u{055a}', '\u{055f}'),
    ('\u{0589}', '\u{058a}'),
    ('\u{05be}', '\u{05f4}'),
    ('\u{060c}', '\u{061f}'),
    ('\u{066a}', '\u{066d}'),
    ('\u{06d4}', '\u{06d4}'),
    ('\u{0964}', '\u{0965}'),
    ('\u{0f01}', '\u{0f17}'),
    ('\u{1361}', '\u{1368}'),
    ('\u{17d4}', '\u{17da}'),
    ('\u{2000}', '\u{206f}'),
    ('\u{2e00}', '\u{2e7f}'),
    ('\u{3000}', '\u{303f}'),
    ('\u{30a0}', '\u{30fb}'),
    ('\u{fe10}', '\u{ff65}'),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Part of a word.
    Letter,
    /// Part of a text without spaces.
    Unspaced,
    /// A word by itself.
    Symbol,
    /// Says how its neighbours are drawn.
    Nothing,
    /// Between words.
    Gap,
}

fn kind(character: char) -> Kind {
    let lies_in = |blocks: &[(char, char)]| blocks.iter().any(|(from, to)| (*from..=*to).contains(&character));
    match character {
        _ if character.is_ascii_alphanumeric() => Kind::Letter,
        _ if character.is_ascii() => Kind::Gap,
        '\u{00ad}' | '\u{200c}'..='\u{200f}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => Kind::Nothing,
        _ if lies_in(&UNSPACED) => Kind::Unspaced,
        _ if character.is_alphanumeric() || lies_in(&MARKS) => Kind::Letter,
        _ if character.is_whitespace() || character.is_control() || lies_in(&PUNCTUATION) => Kind::Gap,
        _ => Kind::Symbol,
    }
}

/// A piece of text between gaps.
enum Run<'a> {
    Word(&'a str),
    Unspaced(&'a [char]),
}

/// Hands out the pieces in their order.
fn cut(text: &str, mut take: impl FnMut(Run<'_>)) {
    let (mut word, mut length) = (String::new(), 0);
    let mut unspaced = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        // Most text: as many at once as there are.
        let plain = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if let Some((letters, behind)) = rest.split_at_checked(plain).filter(|(letters, _)| !letters.is_empty()) {
            if !unspaced.is_empty() {
                take(Run::Unspaced(&unspaced));
                unspaced.clear();
            }
            let kept = letters.get(..MAX_WORD - length).unwrap_or(letters);
            word.extend(kept.bytes().map(|letter| char::from(letter.to_ascii_lowercase())));
            length += kept.len();
            rest = behind;
            continue;
        }
        let here = rest;
        rest = rest.split_at_checked(character.len_utf8()).map_or("", |(_, behind)| behind);
        let kind = kind(character);
        if kind == Kind::Nothing {
            continue;
        }
        if kind != Kind::Letter && !word.is_empty() {
            word.push_str(signs(here));
            take(Run::Word(&word));
            word.clear();
            length = 0;
        }
        if kind != Kind::Unspaced && !unspaced.is_empty() {
            take(Run::Unspaced(&unspaced));
            unspaced.clear();
        }
        match kind {
            Kind::Letter if length < MAX_WORD => {
                length += 1;
                // One by one: as part of a word the last sigma would look different from one in its middle.
                word.extend(character.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c }));
            }
            Kind::Unspaced => unspaced.push(character),
            Kind::Symbol => take(Run::Word(character.encode_utf8(&mut [0; 4]))),
            Kind::Letter | Kind::Nothing | Kind::Gap => {}
        }
    }
    if !word.is_empty() {
        take(Run::Word(&word));
    }
    if !unspaced.is_empty() {
        take(Run::Unspaced(&unspaced));
    }
}

/// The `+` and `#` that begin `rest` and end a word: those between two words join them, as in `food+drinks`.
fn signs(rest: &str) -> &str {
    let end = rest.find(|c| !matches!(c, '+' | '#')).unwrap_or(rest.len());
    let (signs, behind) = rest.split_at_checked(end).unwrap_or_default();
    let joins = behind.chars().next().is_some_and(|next| kind(next) != Kind::Gap);
    if joins || end > MAX_SIGNS { "" } else { signs }
}

fn pairs(characters: &[char]) -> impl Iterator<Item = String> {
    characters.windows(2).map(|pair| pair.iter().collect())
}

/// Text as `event.search_text` holds it: its words, each once, with single spaces between them. No search asks how often or
/// where a word stands.
pub fn search_text(text: &str) -> String {
    let folded = fold_search(text);
    let mut seen = HashSet::with_capacity(folded.len() / 4);
    let mut words = String::with_capacity(folded.len());
    for word in folded.split(' ').filter(|word| seen.insert(*word)) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words
}

/// The words of a text, with single spaces between them.
pub fn fold_search(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut push = |word: &str| {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    };
    cut(text, |run| match run {
        Run::Word(word) => push(word),
        Run::Unspaced(characters) => {
            pairs(characters).for_each(|pair| push(&pair));
            // Every character begins a word, also the last one.
            characters.last().into_iter().for_each(|last| push(last.encode_utf8(&mut [0; 4])));
        }
    });
    folded
}

/// What a search asks for: each of these begins a word of every text that is found. None for a text without words.
///
/// Errors: [`Error::Invalid`] naming `query` for more than [`MAX_WORDS`] words between spaces, or 200 characters.
pub fn search_words(query: &str) -> Result<Vec<String>> {
    if query.chars().count() > MAX_QUERY {
        return Err(Error::invalid("query", "QUERY_TOO_LONG", format!("at most {MAX_QUERY} characters")));
    }
    if query.split_whitespace().count() > MAX_WORDS {
        return Err(Error::invalid("query", "QUERY_TOO_LONG", format!("at most {MAX_WORDS} words")));
    }
    let mut words = Vec::new();
    cut(query, |run| match run {
        Run::Word(word) => words.push(word.to_owned()),
        Run::Unspaced([one]) => words.push(one.to_string()),
        Run::Unspaced(characters) => words.extend(pairs(characters)),
    });
    words.sort_unstable();
    words.dedup();
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(query: &str, text: &str) -> bool {
        let folded = search_text(text);
        search_words(query).unwrap().iter().all(|asked| folded.split(' ').any(|word| word.starts_with(asked.as_str())))
    }

    proptest! {
        #[test]
        fn a_word_of_the_text_is_found(before in "\\PC{0,20}", word in "\\PC{1,20}", after in "\\PC{0,20}") {
            prop_assume!(word.split_whitespace().count() <= MAX_WORDS);
            let text = format!("{before} {word} {after}");
            prop_assert!(finds(&word, &text), "{word:?} in {text:?}");
            prop_assert!(finds(&word.to_lowercase(), &text), "{word:?} in {text:?}");
        }

        #[test]
        fn the_beginning_of_a_word_is_enough(word in "[\\p{Alphabetic}0-9]{1,20}", cut in 1_usize..20) {
            let beginning: String = word.chars().take(cut).collect();
            prop_assert!(finds(&beginning, &word), "{beginning:?} in {word:?}");
        }

        #[test]
        fn any_part_of_a_text_without_spaces_is_found(text in "[ぁ-ん一-龥ก-ฮ]{1,20}", from in 0_usize..20, to in 0_usize..20) {
            let part: String = text.chars().take(to).skip(from).collect();
            prop_assert!(finds(&part, &text), "{part:?} in {text:?}");
        }

        #[test]
        fn words_hold_nothing_that_a_database_would_cut_or_read(text in ".*") {
            let folded = fold_search(&text);
            let is_plain = |c: char| !c.is_ascii() || c.is_ascii_lowercase() || c.is_ascii_digit() || "+#".contains(c);
            for word in folded.split(' ').filter(|_| !folded.is_empty()) {
                prop_assert!(!word.is_empty() && word.len() <= 2046, "{:?}", word);
                prop_assert!(word.chars().all(|c| is_plain(c) && !c.is_whitespace()), "{:?}", word);
                prop_assert!(word.starts_with(|c| !matches!(c, '+' | '#')), "{:?}", word);
            }
        }
    }

    #[test]
    fn words_are_cut_where_people_see_them() {
        let cases = [
            ("  Rust   MEETUP ", "rust meetup"),
            ("Let's go: C++/C# & F#!", "let s go c++ c# f#"),
            ("food+drinks #rust C++17 ####", "food drinks rust c 17"),
            ("🎉Party🎉 №42", "🎉 party 🎉 № 42"),
            ("ΟΔΟΣ ὁδός", "οδοσ ὁδόσ"),
            ("क्या हाल है?", "क्या हाल है"),
            ("東京Rust勉強会", "東京 京 rust 勉強 強会 会"),
            ("«Où?» — “là…”", "où là"),
            ("'); DROP TABLE event; --", "drop table event"),
            ("!!! \0 … ¿?", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(fold_search(text), expected, "{text}");
        }
        assert_eq!(fold_search(&"x".repeat(10_000)).len(), MAX_WORD);
    }

    #[test]
    fn each_word_is_held_once() {
        assert_eq!(search_text("Rust and rust, und 東京 and 東京!"), "rust and und 東京 京");
        assert_eq!(search_text(" "), "");
    }

    #[test]
    fn a_search_is_bounded() {
        assert_eq!(search_words("  Rust   MEETUP rust ").unwrap(), ["meetup", "rust"]);
        assert_eq!(search_words("勉強会").unwrap(), ["勉強", "強会"]);
        assert_eq!(search_words("会").unwrap(), ["会"]);
        assert!(search_words("").unwrap().is_empty());
        assert!(search_words(" *:&|!() ").unwrap().is_empty());
        assert!(search_words("a b c d e f g h i").is_err());
        assert!(search_words(&"x".repeat(201)).is_err());
    }
}
