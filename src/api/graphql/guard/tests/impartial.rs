//! Operations that answer the same to everybody.

use async_graphql::Variables;

use crate::api::graphql::guard::{Guard, Limits, Listed};

const SDL: &str = "
type Query { news(first: Int, filter: Filter): [Thing] mine: Thing about(first: Int): Event named(by: Name): Event }
input Filter { words: String inner: [Filter!] mine: Boolean }
input Name { slug: String inner: Name }
interface Node { id: ID! mine: Boolean }
interface Nothing { id: ID! }
union Thing = Event | Person
type Event implements Node { id: ID! name: String mine: Boolean organizer: Node nothing: Nothing }
type Person implements Node { id: ID! name: String mine: Boolean }
schema { query: Query }
";

const ALL_BUT_MINE: &Listed = &[
    ("Query", &["news", "about", "named"]),
    ("Query.news", &["first", "filter"]),
    ("Query.about", &["first"]),
    ("Query.named", &["by"]),
    ("Filter", &["words", "inner", "mine"]),
    ("Name", &["slug", "inner"]),
    ("Nothing", &["id"]),
    ("Event", &["id", "name", "mine", "organizer", "nothing"]),
    ("Person", &["id", "name"]),
];

fn is_impartial(listed: &Listed, text: &str) -> bool {
    let guard = Guard::new(SDL, &[], Limits::default()).unwrap().with_impartial(listed);
    let name = text.contains("query A").then_some("A");
    let checked = guard.check(text, name, &Variables::default()).unwrap();
    guard.is_impartial(&checked.document, checked.operation_name.as_deref())
}

#[test]
fn an_operation_of_listed_fields_answers_the_same_to_everybody() {
    for text in [
        "{ __typename news { __typename } }",
        "{ news(first: 1, filter: { words: \"\" }) { ... on Event { id mine alias: name } ... on Person { name } } }",
        "{ about { organizer { id ... on Node { id } ... on Person { name } ... { id } } } }",
        "{ news { ...a ...b } } fragment a on Event { ...c } fragment b on Person { ...c } fragment c on Node { id }",
        "query A { named(by: { inner: { slug: \"\" } }) { id } } query B { mine { __typename } }",
    ] {
        assert!(is_impartial(ALL_BUT_MINE, text), "{text}");
        assert!(!is_impartial(&[], text), "{text}");
    }
}

#[test]
fn one_other_field_is_enough_wherever_it_stands() {
    for text in [
        "{ mine { __typename } }",
        "{ about { id } mine { __typename } }",
        "{ news { ... on Person { id mine } } }",
        "{ news { ... on Person { name: mine } } }",
        "{ about { organizer { mine } } }",
        "{ about { organizer { ... { ... on Node { id mine } } } } }",
        "{ news { ...a } } fragment a on Event { id ...b } fragment b on Event { organizer { ...c } }
            fragment c on Node { mine }",
        "query ($no: Boolean = false) { news { ... on Person { mine @include(if: $no) } } }",
        "{ about { id } ...a @skip(if: true) } fragment a on Query { mine { __typename } }",
        "query A { mine { __typename } } query B { about { id } }",
        // What nobody knows.
        "{ about { id missing } }",
        "{ about { nothing { id } } }",
        "{ about { ...missing } }",
        "{ about { ... on Missing { id } } }",
        "{ __schema { types { name } } }",
    ] {
        assert!(!is_impartial(ALL_BUT_MINE, text), "{text}");
    }
}

/// What can be given to a field is part of it, whether or not it is given.
#[test]
fn a_field_is_listed_with_everything_that_it_takes() {
    let without = |of: &str, name: &str| -> Vec<(&'static str, &'static [&'static str])> {
        let fewer = |all: &[&'static str]| -> &'static [&'static str] {
            all.iter().copied().filter(|known| *known != name).collect::<Vec<_>>().leak()
        };
        ALL_BUT_MINE.iter().map(|(known, all)| (*known, if *known == of { fewer(all) } else { *all })).collect()
    };
    let (news, named) = ("{ news { __typename } }", "{ named { id } }");
    for (of, name, text, other) in [
        ("Query.news", "filter", news, named),
        ("Filter", "mine", news, named),
        ("Query.named", "by", named, news),
        ("Name", "inner", named, news),
    ] {
        let listed = without(of, name);
        assert!(!is_impartial(&listed, text) && is_impartial(&listed, other), "{of} without {name}");
    }
}
