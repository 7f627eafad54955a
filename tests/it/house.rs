//! The rules of the house that no compiler knows. Each test reports every violation there is, as `file:line: what`.

mod scan;

use std::{collections::BTreeSet, fs};

use scan::{Source, in_word, line, root, root_modules, sources, starts};

/// The rings with what each may name; a module that stands in no list is below all rings and names none of them.
const RINGS: &[(&str, &[&str])] = &[
    ("roles", &["roles", "api", "app", "domain", "infra"]),
    ("api", &["api", "app", "domain", "infra"]),
    ("app", &["app", "domain", "infra"]),
    ("domain", &["app", "domain", "infra"]),
    ("infra", &["infra"]),
    ("config", &[]),
    ("error", &[]),
    ("telemetry", &[]),
];

/// Words (or beginnings of words) that belong to one place, so that what stands behind them can be replaced there.
const ONE_PLACE: &[(&str, &[&str])] = &[
    (".begin(", &["src/infra/db"]),
    (".begin_with_config(", &["src/infra/db"]),
    (".begin_with_options(", &["src/infra/db"]),
    ("async_graphql", &["src/api/graphql"]),
    ("atrium_", &["src/infra/atproto"]),
    ("axum", &["src/api/", "src/roles/serve"]),
    ("lapin", &["src/infra/queue/rabbit"]),
    ("redis::", &["src/infra/kv/"]),
    ("opentelemetry", &["src/telemetry/traces"]),
    ("reqwest", &["src/infra/", "src/telemetry/traces"]),
    ("reqwest::Client", &["src/infra/http", "src/telemetry/traces"]),
    ("sea_orm", &["src/app.rs", "src/domain/", "src/error.rs", "src/infra/", "src/roles/"]),
    ("sqlx", &["src/infra/db"]),
    ("std::env", &["src/config"]),
];

/// Last words of names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "service", "services", "types",
    "util", "utils",
];

/// What a path of the project begins with, and from where it counts: the second for the shorter form used in `src/`.
const ROOTS: &[&str] = &[
    ".ci/",
    ".config/",
    ".github/",
    "benches/",
    "client-examples/",
    "deploy/",
    "entities/",
    "migration/",
    "scripts/",
    "src/",
    "tests/",
];
const RING_ROOTS: &[&str] = &["api/", "domain/", "infra/", "roles/"];

const OURS: &[&str] = &["src", "tests", "entities", "migration", "benches"];
const LONGEST_FILE: usize = 500;

/// Fails with everything that was found.
fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n{}\n", found.join("\n"));
}

/// Whether the rule's files are there at all: a scan of nothing proves nothing.
fn scanned(folders: &[&str]) -> Vec<Source> {
    let files = sources(folders);
    assert!(!files.is_empty(), "no Rust files under {folders:?}");
    files
}

#[test]
fn imports_point_inwards() {
    let found: Vec<_> = scanned(&["src"]).iter().flat_map(imports).collect();
    report("roles → api → domain → infra → entities; nothing points back", &found);
}

fn imports(source: &Source) -> Vec<String> {
    let modules: Vec<_> = source.path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let Some((_, allowed)) = modules.first().and_then(|first| RINGS.iter().find(|(ring, _)| ring == first)) else {
        return Vec::new(); // lib.rs and main.rs put the rings together
    };
    let depth = modules.iter().filter(|module| **module != "mod").count();
    let code = source.code();
    let mut named: Vec<_> = root_modules(&code, depth).into_iter().collect();
    named.sort();
    let is_ring = |module: &str| ["roles", "api", "app", "domain", "infra"].contains(&module);
    named
        .into_iter()
        .filter(|(_, module)| is_ring(module) && !allowed.contains(&module.as_str()))
        .map(|(at, module)| format!("{}:{}: names {module}", source.path, line(&code, at)))
        .collect()
}

#[test]
fn words_stay_in_their_place() {
    let found: Vec<_> = scanned(&["src"]).iter().flat_map(misplaced).collect();
    report("these words belong to one place", &found);
}

fn misplaced(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut found = Vec::new();
    for (word, places) in ONE_PLACE {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let hits = if word.starts_with('.') {
            code.match_indices(word).map(|(at, _)| at).collect()
        } else {
            starts(&code, word)
        };
        found.extend(
            hits.into_iter()
                .map(|at| format!("{}:{}: {word} belongs to {}", source.path, line(&code, at), places.join(", "))),
        );
    }
    found
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > LONGEST_FILE).then(|| format!("{}:{lines}: longer than {LONGEST_FILE} lines", source.path))
    };
    let found: Vec<_> = scanned(OURS).iter().filter_map(long).collect();
    report("a file this long holds two nouns", &found);
}

#[test]
fn names_say_something() {
    let found: Vec<_> = scanned(OURS).iter().flat_map(empty_names).collect();
    report(&format!("names do not end in {}", EMPTY_NAMES.join(", ")), &found);
}

fn empty_names(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut found = Vec::new();
    for part in source.path.trim_end_matches(".rs").split('/') {
        if is_empty_name(part) {
            found.push(format!("{}:1: the path", source.path));
        }
    }
    // `type` is left out: associated types are named by the traits of others
    for keyword in ["struct ", "enum ", "trait ", "union ", "fn ", "mod ", "macro_rules! "] {
        for at in starts(&code, keyword) {
            let tail = code.get(at + keyword.len()..).unwrap_or_default();
            let name: String = tail.chars().take_while(|c| in_word(*c)).collect();
            if is_empty_name(&name) {
                found.push(format!("{}:{}: {keyword}{name}", source.path, line(&code, at)));
            }
        }
    }
    found
}

/// By the last word of `snake_case`, `kebab-case` or `CamelCase`.
fn is_empty_name(name: &str) -> bool {
    let tail = name.rsplit(['_', '-']).next().unwrap_or(name);
    let capital = tail.rfind(char::is_uppercase).filter(|_| tail.contains(char::is_lowercase)).unwrap_or(0);
    tail.get(capital..).is_some_and(|word| EMPTY_NAMES.contains(&word.to_ascii_lowercase().as_str()))
}

#[test]
fn nothing_is_left_undone() {
    // put together here, or this file would break its own rule
    let undone = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
    let silenced = [concat!("#[al", "low("), concat!("#![al", "low(")];
    let mut found = Vec::new();
    for source in scanned(OURS) {
        for (at, text) in source.text.lines().enumerate() {
            for word in undone.iter().filter(|word| !starts(text, word).is_empty()) {
                found.push(format!("{}:{}: {word}", source.path, at + 1));
            }
        }
        for (at, text) in source.code().lines().enumerate() {
            for word in silenced.iter().filter(|word| text.contains(*word)) {
                found.push(format!("{}:{}: {word}…)]: use expect with a reason", source.path, at + 1));
            }
        }
    }
    report("what is delivered is finished", &found);
}

#[test]
fn paths_in_the_prose_exist() {
    let mut found = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        match fs::read_to_string(root().join(name)) {
            Ok(text) => found.extend(dead_paths(name, &text)),
            Err(_) => found.push(format!("{name}:1: is missing")),
        }
    }
    for source in scanned(OURS) {
        found.extend(dead_paths(&source.path, &source.comments()));
    }
    report("the prose names what is not there", &found);
}

fn dead_paths(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, text) in text.lines().enumerate() {
        if text.trim_start_matches(['/', '!', ' ']).starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: BTreeSet<&str> =
            if fenced { BTreeSet::from([text]) } else { text.split('`').skip(1).step_by(2).collect() };
        let links = text.split("](").skip(1).filter_map(|tail| tail.split([')', '#']).next());
        let links = links.filter(|link| !name.contains('/') && !link.contains(':') && !link.is_empty());
        let words =
            spans.into_iter().flat_map(|span| span.split(|c: char| c.is_whitespace() || "()[]\"',;=".contains(c)));
        let dead = words.filter(|word| is_dead(word)).chain(links.filter(|link| !root().join(link).exists()));
        found.extend(dead.map(|word| format!("{name}:{}: {word}", at + 1)));
    }
    found
}

/// Whether a word is a path of ours and leads nowhere. Of a pattern (`src/*/mod.rs`) the part before it must exist.
fn is_dead(word: &str) -> bool {
    let word = word.trim_start_matches("./").trim_end_matches(['.', ':']);
    let path = match word {
        _ if ROOTS.iter().any(|root| word.starts_with(root)) => word.to_owned(),
        _ if RING_ROOTS.iter().any(|root| word.starts_with(root)) => format!("src/{word}"),
        _ => return false,
    };
    let path = path.split_once(':').map_or(path.as_str(), |(path, _)| path); // :LINE, ::item
    let fixed = path.split('/').take_while(|part| !part.contains(['*', '{', '<', '…', '$', '?'])).collect::<Vec<_>>();
    let path = root().join(fixed.join("/"));
    // inside src/ a module may be named without its ending, as `domain/event`
    !path.exists() && !path.with_extension("rs").exists()
}

#[test]
fn the_rules_bite() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };

    let inner = source("src/infra/db.rs", "use crate::{error::Error,\n    domain::event};\nfn f() { crate::api::g() }");
    assert_eq!(imports(&inner), ["src/infra/db.rs:2: names domain", "src/infra/db.rs:3: names api"]);
    let upwards = source("src/domain/event/mod.rs", "use super::super::api::x;");
    assert_eq!(imports(&upwards), ["src/domain/event/mod.rs:1: names api"]);
    assert!(imports(&source("src/api/mod.rs", "use crate::{domain, infra};")).is_empty());

    let places =
        source("src/domain/tenant.rs", "// axum\nuse axum::Router;\nlet tx = db.begin().await;\nlet e = \"sqlx\";");
    assert_eq!(misplaced(&places).len(), 2, "{:?}", misplaced(&places));
    assert!(misplaced(&source("src/infra/db.rs", "db.begin()")).is_empty());

    let names = source("src/api/util.rs", "struct EventManager; fn type_helper() {} struct ServiceInfo; enum Typed {}");
    assert_eq!(empty_names(&names).len(), 3, "{:?}", empty_names(&names));
    assert!(is_empty_name("HTTPService") && is_empty_name("TYPES") && !is_empty_name("Utility"));

    let prose =
        "see `src/lib.rs`, `src/nothing.rs:3` and `api/nothing`\n[a](README.nothing)\n`src/*/mod.rs` src/nothing";
    let dead = dead_paths("README.md", prose);
    assert_eq!(dead, ["README.md:1: api/nothing", "README.md:1: src/nothing.rs:3", "README.md:2: README.nothing"]);
}
