//! Reading Rust as text, well enough for the house rules: what is code, what is prose, what is a path.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the project.
pub(super) struct Source {
    /// Path from the project's root, with `/`.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
}

impl Source {
    /// The text with comments and the insides of literals blanked; lines stay where they are.
    pub(super) fn code(&self) -> String {
        blank(&self.text, false)
    }

    /// The comments alone; lines stay where they are.
    pub(super) fn comments(&self) -> String {
        blank(&self.text, true)
    }
}

/// The project's root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under the folders, sorted by path.
pub(super) fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let read = |path: PathBuf| Some(Source { path: relative(&path), text: fs::read_to_string(&path).ok()? });
    paths.into_iter().filter_map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "node_modules" && name != "target" {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Blanks either all that is no code, or (`prose`) all that is no comment.
fn blank(text: &str, prose: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_code, is_comment) =
            token(rest, first, out.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let (piece, after) = rest.split_at(length);
        let keep = if prose { is_comment } else { is_code };
        out.extend(piece.chars().map(|c| if keep || c == '\n' { c } else { ' ' }));
        rest = after;
    }
    out
}

/// Length of the next piece, and whether it is code or a comment (a literal is neither).
fn token(rest: &str, first: char, in_word: bool) -> (usize, bool, bool) {
    let until = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (until(rest.find('\n')), false, true);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false, true);
    }
    if !in_word && let Some(length) = raw_string(rest) {
        return (length, false, false);
    }
    if first == '"' {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        return (until(end.map(|(at, _)| at + 1)), false, false);
    }
    if first == '\'' {
        // a character literal closes after one character or an escape; a lifetime does not close
        let mut after = rest.chars().skip(1);
        let length = match (after.next(), after.next()) {
            (Some('\\'), Some(_)) => rest.get(3..).and_then(|tail| tail.find('\'')).map(|at| at + 4),
            (Some(c), Some('\'')) => Some(2 + c.len_utf8()),
            _ => None,
        };
        if let Some(length) = length {
            return (length, false, false);
        }
    }
    (first.len_utf8(), true, false)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.strip_prefix(prefix).is_some_and(|tail| tail.trim_start_matches('#').starts_with('"')))?;
    let tail = rest.strip_prefix(prefix)?;
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix.len() + hashes + 1;
    Some(rest.get(body..)?.find(&end).map_or(rest.len(), |at| body + at + end.len()))
}

/// The line of a byte of the text, from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

/// Whether the character can be part of a word.
pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `needle` stands in `text` with no word character before it.
pub(super) fn starts(text: &str, needle: &str) -> Vec<usize> {
    let found = text.match_indices(needle).map(|(at, _)| at);
    found.filter(|at| !text.get(..*at).is_some_and(|before| before.ends_with(in_word))).collect()
}

/// The modules that `code` names directly below the crate's root: `crate::X`, `gateway::X`, `crate::{X, Y::…}`, and as
/// many `super::` as lead there from a file `depth` modules below the root.
pub(super) fn root_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "gateway::"] {
        for at in starts(code, prefix) {
            found.extend(heads(code, at + prefix.len()));
        }
    }
    for at in starts(code, "super::") {
        if code.get(..at).is_some_and(|before| before.ends_with("super::")) {
            continue; // counted from the first of the chain
        }
        let tail = code.get(at..).unwrap_or_default();
        let name = tail.trim_start_matches("super::");
        let chain = (tail.len() - name.len()) / "super::".len();
        // in a module inside the file one more is needed; naming a ring's word there by chance is unlikely
        if chain >= depth {
            found.extend(heads(code, at + tail.len() - name.len()));
        }
    }
    found
}

/// The first segment of the path at `at`, or of each path of the group in braces there.
fn heads(code: &str, at: usize) -> Vec<(usize, String)> {
    let word = |from: usize| {
        let tail = code.get(from..).unwrap_or_default();
        let length = tail.find(|c| !in_word(c)).unwrap_or(tail.len());
        tail.get(..length).filter(|word| !word.is_empty()).map(|word| (from, word.to_owned()))
    };
    let tail = code.get(at..).unwrap_or_default();
    if !tail.starts_with('{') {
        return word(at).into_iter().collect();
    }
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut expecting = false;
    for (offset, c) in tail.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expecting = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' => expecting = depth == 1,
            c if c.is_whitespace() => {}
            _ if expecting => {
                found.extend(word(at + offset));
                expecting = false;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = r##"let a = "b // c\" d"; // e "f"
/* g /* h */ i */ let j = r#"k " l"#; let m: &'static str = 'n'; let o = '\''; p('"', "q")"##;
    let source = Source { path: String::new(), text: text.to_owned() };
    let words =
        |text: String| text.split(|c| !in_word(c)).filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(source.code()), ["let", "a", "let", "j", "let", "m", "static", "str", "let", "o", "p"]);
    assert_eq!(words(source.comments()), ["e", "f", "g", "h", "i"]);
    assert_eq!(source.code().lines().count(), 2);
}

#[test]
fn modules_below_the_root_are_seen_in_every_form() {
    let code = "use crate::{api::{a, domain}, infra};\nfn f() { crate::roles::g(); super::super::entities::h() }";
    let found: Vec<_> = root_modules(code, 2).into_iter().map(|(_, word)| word).collect();
    assert_eq!(found, ["api", "infra", "roles", "entities"]);
    assert!(root_modules("super::super::api::x(); my_crate::api::y()", 3).is_empty());
}
