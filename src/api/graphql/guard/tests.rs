//! Tests of the document guard.

mod impartial;
mod values;

use async_graphql::{
    Value, Variables,
    parser::types::{OperationType, Selection},
    value,
};
use proptest::prelude::*;

use super::{Checked, Code, Guard, Limits, Refusal, lexer};

const SDL: &str = r#"
directive @cost(weight: Int! = 1, multipliers: [String!]) on FIELD_DEFINITION
type Query {
  hello(name: [String], times: String): String
  free: Query @cost(weight: 0)
  dear: String @cost(weight: 500)
  events(first: Int, last: Int): EventConnection @cost(weight: 1, multipliers: ["first", "last"])
  latest(first: Int = 7): EventConnection @cost(weight: 2, multipliers: ["first"])
  nodes(ids: [ID!]!): [Node]! @cost(weight: 1, multipliers: ["ids"])
}
type Mutation { write: String @cost(weight: 10) }
interface Node { id: ID! }
type EventConnection { nodes: [Event!]! }
type Event implements Node { id: ID! name: String rsvps(first: Int = 3): EventConnection @cost(multipliers: ["first"]) }
schema { query: Query mutation: Mutation }
"#;

fn guard() -> Guard {
    Guard::new(SDL, &[], Limits::default()).unwrap()
}

fn check(text: &str) -> Result<Checked, Refusal> {
    guard().check(text, None, &Variables::default())
}

fn code(text: &str) -> Code {
    check(text).unwrap_err().code
}

/// In a thread with a stack so small that recursion over the input would end the process.
fn in_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(work).unwrap().join().unwrap();
}

fn with(variables: Value, text: &str) -> u64 {
    guard().check(text, None, &Variables::from_value(variables)).unwrap().cost
}

#[test]
fn nested_values_never_reach_the_parser() {
    in_small_stack(|| {
        let deep = |open: &str, close: &str| format!("{{hello(name:{}{})}}", open.repeat(20_000), close.repeat(20_000));
        let limits = Limits { max_tokens: usize::MAX, ..Limits::default() };
        for (open, close) in [("[", "]"), ("{a:", "}"), ("[{a:", "}]")] {
            assert_eq!(lexer::scan(&deep(open, close), &limits).unwrap_err().code, Code::TooDeep, "{open}");
        }
        let in_default = format!("query($a:[Int]={}1{}){{hello}}", "[".repeat(500), "]".repeat(500));
        let in_type = format!("query($a:{}Int{}){{hello}}", "[".repeat(500), "]".repeat(500));
        let in_directive = format!("{{hello @skip(if:{}1{})}}", "[".repeat(500), "]".repeat(500));
        let selections = "{hello".repeat(500) + &"}".repeat(500);
        for text in [in_default, in_type, in_directive, selections] {
            assert_eq!(lexer::scan(&text, &limits).unwrap_err().code, Code::TooDeep);
        }
    });
}

#[test]
fn what_passes_the_lexer_is_parsed_within_an_ordinary_stack() {
    let work = || {
        let values = format!("{{hello(unknown:{}{})}}", "[".repeat(98), "]".repeat(98));
        assert!(check(&values).is_ok());
        let selections = "{free".repeat(100) + &"}".repeat(100);
        assert!(check(&selections).is_err());
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(work).unwrap().join().unwrap();
}

#[test]
fn brackets_in_strings_and_comments_do_not_count_and_wrong_closers_do() {
    let many = "[".repeat(300);
    assert!(check(&format!("{{hello(name:\"{many}\")}} # {many}")).is_ok());
    assert!(check(&format!("{{hello(name:\"\"\"{many} \\\"\"\" {many}\"\"\")}}")).is_ok());
    assert_eq!(code(&"[}".repeat(300)), Code::ParseFailed);
    assert_eq!(code("{hello(name:[[[)))]]])}"), Code::ParseFailed);
}

#[test]
fn texts_on_which_the_parser_would_panic_are_refused() {
    for escape in [
        r"\ud800",
        r"\uDFFF",
        r"\u12",
        r"\x",
        "\\",
        r"\u{}",
        r"\u{110000}",
        r"\u{d83d}\u{de00}",
        r"\ud83d\u{de00}",
        r"\u{d83d}\ude00",
        r"\ude00\ud83d",
        r"\ud83dx",
        r"\ud83d\ud83d",
        r"\u{1F600",
        r"\u{ 1}",
        r"\u{fffffffff}",
    ] {
        assert_eq!(code(&format!("{{hello(name:\"{escape}\")}}")), Code::ParseFailed, "{escape}");
    }
    for escape in [r"\u0000", r"\u{0}", r"\u{000000000}", "\0"] {
        assert_eq!(code(&format!("{{hello(name:\"{escape}\")}}")), Code::BadInput, "{escape}");
    }
    assert!(check(r#"{hello(name:"é\né\"")}"#).is_ok());
}

/// The parser needs nothing between values: a token must not hide several.
#[test]
fn values_without_a_gap_are_counted_one_by_one() {
    let limits = Limits { max_tokens: 20, ..Limits::default() };
    for pieces in ["-1", "0", "-0", "1.5-1", "1e5-1", "true", "falsenull"] {
        let text = format!("{{hello(name:[{}])}}", pieces.repeat(20));
        assert!(async_graphql::parser::parse_query(&text).is_ok(), "{pieces}");
        assert_eq!(lexer::scan(&text, &limits).unwrap_err().code, Code::TooLarge, "{pieces}");
    }
    for one in ["-1.5e+10", "0.5E-3", "1e9", "-0", "900", "true", "trueish", "null"] {
        let text = format!("{{{}hello(name:{one})}}", "a ".repeat(if one == "trueish" { 11 } else { 12 }));
        assert!(lexer::scan(&text, &limits).is_ok(), "{one}");
    }
    let name = format!("{{{}}}", "true".repeat(30));
    assert_eq!(lexer::scan(&name, &limits).unwrap_err().code, Code::TooLarge, "a long name is one to the parser");
}

#[test]
fn characters_may_be_escaped_in_every_way() {
    let read = |literal: &str| {
        let checked = check(&format!("{{hello(name:{literal}, times:\"\\u{{1f600}}\") # \\u{{41}}\n}}")).unwrap();
        let operation = checked.document.operations.iter().next().unwrap().1;
        let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else { panic!("no field") };
        assert_eq!(field.node.get_argument("times").unwrap().node.to_string(), "\"😀\"");
        field.node.get_argument("name").unwrap().node.clone().into_const().unwrap()
    };
    for (literal, text) in [
        (r#""a\u{1F600}b\uD83D\uDE00c\u00e9""#, "a😀b😀cé"),
        (r#""é\u{22}\u{5C}\u{a}\u{0000041}é""#, "é\"\\\nAé"),
        (r#""\\u{1F600} \\uD83D""#, r"\u{1F600} \uD83D"),
        (r#""\u{10FFFF}""#, "\u{10FFFF}"),
        (r#""""\u{1F600} \uD83D\uDE00 \u0041""""#, r"\u{1F600} \uD83D\uDE00 \u0041"),
    ] {
        assert_eq!(read(literal), Value::String(text.to_owned()), "{literal}");
    }
}

#[test]
fn a_parse_failure_tells_the_place_and_repeats_little() {
    let refusal = check(&format!("{{\n  hello(name: ! {}", "x ".repeat(2_000))).unwrap_err();
    assert_eq!(refusal.code, Code::ParseFailed);
    let refusal = check(&format!("{{ {} hello(: 1) }}", "hello ".repeat(900))).unwrap_err();
    assert!(refusal.message.len() < 250 && refusal.message.contains("expected"), "{}", refusal.message);
    let at = check("{\n é §\n}").unwrap_err().at.unwrap();
    assert_eq!((at.line, at.column), (2, 2));
    assert_eq!(code(&format!("{{ {} }}", "n".repeat(101))), Code::TooLarge);
    assert_eq!(code(&"hello ".repeat(5_001)), Code::TooLarge);
}

/// `levels` fragments, each of which spreads the next twice.
fn exploding(levels: usize, leaf: &str) -> String {
    use std::fmt::Write as _;
    let mut text = "{...f0}".to_owned();
    for level in 0..levels {
        write!(text, "fragment f{level} on Query{{...f{0} ...f{0}}}", level + 1).unwrap();
    }
    write!(text, "fragment f{levels} on Query{{{leaf}}}").unwrap();
    text
}

#[test]
fn exploding_fragments_are_refused_without_being_walked() {
    in_small_stack(|| {
        for leaf in ["hello", "...missing", "free{...missing}"] {
            assert_eq!(code(&exploding(25, leaf)), Code::TooComplex, "{leaf}");
        }
        // Deeper than the library's walks should go, exploding or not.
        assert_eq!(code(&exploding(200, "hello")), Code::TooDeep);
        // Nor may the part that does not run explode.
        let unused = format!("query A{{hello}} query B{}", exploding(25, "hello"));
        let refusal = guard().check(&unused, Some("A"), &Variables::default()).unwrap_err();
        assert_eq!(refusal.code, Code::TooComplex);
        assert_eq!(code(&exploding(25, "hello").replace("{...f0}", "{hello}")), Code::TooComplex);
    });
}

#[test]
fn fragment_cycles_are_refused() {
    for text in [
        "{...a} fragment a on Query{...a}",
        "{...a} fragment a on Query{free{...b}} fragment b on Query{... on Query{...a}}",
        "{hello} fragment a on Query{...b} fragment b on Query{...a}",
    ] {
        assert_eq!(code(text), Code::ValidationFailed, "{text}");
    }
}

#[test]
fn depth_counts_fields_through_fragments() {
    let deep = |levels: usize| {
        format!("{}hello{}", "{free".repeat(levels), "}".repeat(levels)).replace("freehello", "free{hello}")
    };
    assert_eq!(check(&deep(14)).unwrap().depth, 15);
    assert_eq!(code(&deep(15)), Code::TooDeep);
    assert_eq!(
        check("{...a} fragment a on Query{free{...b}} fragment b on Query{... on Query{hello}}").unwrap().depth,
        2
    );
}

#[test]
fn aliases_root_fields_and_directives_are_bounded() {
    let aliases =
        |n: usize| format!("{{free{{{}}}}}", (0..n).map(|i| format!("a{i}:hello")).collect::<Vec<_>>().join(" "));
    assert!(check(&aliases(50)).is_ok());
    assert_eq!(code(&aliases(51)), Code::TooComplex);
    assert!(check(&format!("{{{}}}", "hello ".repeat(20))).is_ok());
    assert_eq!(code(&format!("{{{}}}", "hello ".repeat(21))), Code::TooComplex);
    let spread = "{...a ...a ...a} fragment a on Query{hello hello hello hello hello hello hello}";
    assert_eq!(code(spread), Code::TooComplex, "21 root fields through a fragment");
    assert_eq!(code(&format!("{{hello {}}}", "@skip(if:false)".repeat(51))), Code::TooComplex);
}

#[test]
fn cost_follows_the_schema() {
    let cost = |text: &str| check(text).unwrap().cost;
    assert_eq!(cost("{hello}"), 1);
    assert_eq!(cost("{dear free{hello}}"), 501);
    assert_eq!(cost("{events(first:10){nodes{id name}}}"), 1 + 10 * 3);
    assert_eq!(cost("{events{nodes{id name}}}"), 1 + 20 * 3, "page where none is asked for");
    assert_eq!(cost("{events(first:null last:5){nodes{id name}}}"), 1 + 5 * 3);
    assert_eq!(cost("{latest{nodes{id name}}}"), 2 + 7 * 3, "the schema's default");
    assert_eq!(cost("{events(first:500){nodes{id}}}"), 1 + 100 * 2, "clamped");
    assert_eq!(cost("{events(first:-5){nodes{id}}}"), 1 + 2);
    assert_eq!(cost("{nodes(ids:[1,2,3,4]){id ... on Event{name}}}"), 1 + 4 * 2);
    assert_eq!(cost("{...a ...a} fragment a on Query{events(first:2){nodes{id}}}"), 2 * (1 + 2 * 2));
    assert_eq!(cost("mutation{write}"), 10);
    assert_eq!(cost("{unknown{deeper}}"), 2);
    let variables = "query($n:Int=9,$ids:[ID!]!){events(first:$n){nodes{id}} nodes(ids:$ids){id}}";
    assert_eq!(with(value!({"ids": [1, 2, 3]}), variables), (1 + 9 * 2) + (1 + 3));
    assert_eq!(with(value!({"n": 50, "ids": []}), variables), (1 + 50 * 2) + 1);
}

#[test]
fn cost_saturates_instead_of_wrapping() {
    let huge = "events(first:2147483647){nodes{rsvps(first:2147483647){nodes{rsvps(first:2147483647){nodes{id}}}}}}";
    assert_eq!(code(&format!("{{{huge}}}")), Code::TooComplex);
    let limits = Limits { max_page_size: u64::MAX, max_cost: u64::MAX - 1, ..Limits::default() };
    let unclamped = Guard::new(SDL, &[], limits).unwrap();
    let fine = unclamped.check("{hello}", None, &Variables::default());
    assert!(fine.is_ok());
    assert_eq!(
        unclamped.check(&format!("{{{huge}}}"), None, &Variables::default()).unwrap_err().code,
        Code::TooComplex
    );
}

#[test]
fn the_operation_that_runs_is_chosen_by_name() {
    let guard = guard();
    let text = "query A{hello} mutation B{write} query C{dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear dear}";
    let none = Variables::default();
    let b = guard.check(text, Some("B"), &none).unwrap();
    assert_eq!((b.operation_type, b.operation_name.as_deref(), b.cost), (OperationType::Mutation, Some("B"), 10));
    assert_eq!(guard.check(text, Some("A"), &none).unwrap().cost, 1, "C does not run");
    for (text, name) in [(text, None), (text, Some("D")), (text, Some("")), ("{hello}", Some("A"))] {
        assert_eq!(guard.check(text, name, &none).unwrap_err().code, Code::OperationNotFound, "{name:?}");
    }
    assert_eq!(guard.check("query A{hello}", None, &none).unwrap().operation_name.as_deref(), Some("A"));
}

#[test]
fn required_variables_are_required() {
    let required = "query($ids:[ID!]!){nodes(ids:$ids){id}}";
    assert_eq!(code(required), Code::BadInput);
    let null = Variables::from_value(value!({"ids": null}));
    assert_eq!(guard().check(required, None, &null).unwrap_err().code, Code::BadInput);
    assert!(check("query($n:Int!=5){events(first:$n){nodes{id}}}").is_ok());
    assert!(check("query($n:Int){events(first:$n){nodes{id}}}").is_ok());
}

/// The query of current tools, with the nine levels of `ofType`.
fn introspection() -> String {
    let of_type = "ofType{kind name ".repeat(9) + &"}".repeat(9);
    format!(
        "query IntrospectionQuery{{__schema{{description queryType{{name kind}} mutationType{{name kind}} subscriptionType{{name kind}} \
         types{{...FullType}} directives{{name description isRepeatable locations args(includeDeprecated:true){{...InputValue}}}}}}}} \
         fragment FullType on __Type{{kind name description specifiedByURL isOneOf \
         fields(includeDeprecated:true){{name description args(includeDeprecated:true){{...InputValue}} type{{...TypeRef}} isDeprecated deprecationReason}} \
         inputFields(includeDeprecated:true){{...InputValue}} interfaces{{...TypeRef}} \
         enumValues(includeDeprecated:true){{name description isDeprecated deprecationReason}} possibleTypes{{...TypeRef}}}} \
         fragment InputValue on __InputValue{{name description type{{...TypeRef}} defaultValue isDeprecated deprecationReason}} \
         fragment TypeRef on __Type{{kind name {of_type}}}"
    )
}

#[test]
fn the_introspection_query_passes() {
    assert_eq!(check(&introspection()).unwrap().depth, 15);
}

#[test]
fn the_cache_is_bounded_and_answers_the_same() {
    let guard = guard();
    let none = Variables::default();
    for round in 0..2 {
        for number in 0..600 {
            let checked = guard.check(&format!("query Q{number}{{hello}}"), None, &none).unwrap();
            assert_eq!(checked.operation_name, Some(format!("Q{number}")), "round {round}");
        }
    }
    assert_eq!(guard.cache.len(), 512);
    guard.check(&format!("{{hello}} #{}", "x".repeat(20_000)), None, &none).unwrap();
    assert_eq!(guard.cache.len(), 512, "large texts are not kept");
    for number in 0..100 {
        guard.check(&format!("{{hello}} #{number}{}", "x".repeat(16_000)), None, &none).unwrap();
    }
    assert!(guard.cache.len() < 100, "the texts together are bounded");
}

fn soup() -> impl Strategy<Value = String> {
    let tokens = [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "...",
        "on",
        "Query",
        "Event",
        "hello",
        "events",
        "nodes",
        "first",
        ":",
        "$",
        "=",
        "!",
        "@",
        "skip",
        "if",
        "true",
        "null",
        "1",
        "-1.5e3",
        "\"a\"",
        "\"\"\"b\"\"\"",
        "query",
        "mutation",
        "fragment",
        "subscription",
        "a",
        "#c\n",
        "\"\\u00e9\"",
        "&",
        "|",
        "2147483647",
        ",",
    ];
    proptest::collection::vec(proptest::sample::select(tokens.to_vec()), 0..60).prop_map(|tokens| tokens.join(" "))
}

fn selections() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(&["id", "hello", "...a", "...b", "x:name", "dear", "...missing"][..]);
    let set = leaf.prop_map(str::to_owned).prop_recursive(6, 60, 4, |inner| {
        let sets = proptest::collection::vec(inner, 1..4).prop_map(|parts| format!("{{{}}}", parts.join(" ")));
        let heads = proptest::sample::select(
            &["free", "events(first:9)", "nodes(ids:[1,2])", "... on Event", "...", "k:latest"][..],
        );
        (heads, sets).prop_map(|(head, set)| format!("{head}{set}"))
    });
    proptest::collection::vec(set, 1..5).prop_map(|parts| parts.join(" "))
}

/// The document with every fragment written out: the oracle for the walk that measures each once.
fn written_out(text: &str, a: &str, b: &str) -> String {
    // `b` never spreads, `a` may spread `b`: two substitutions write everything out.
    let b = format!("... on Query{{{b}}}");
    let a = format!("... on Query{{{}}}", a.replace("...b", &b));
    text.replace("...a", &a).replace("...b", &b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>(), soup in soup()) {
        let guard = guard();
        for text in [text.clone(), soup.clone(), format!("{{hello(name:{text})}}"), format!("{{ {soup} }}")] {
            let _ = guard.check(&text, None, &Variables::default());
        }
    }

    #[test]
    fn measuring_once_is_the_same_as_writing_out(text in selections(), a in selections(), b in selections()) {
        let (a, b) = (a.replace("...a", "id"), b.replace("...a", "id").replace("...b", "id"));
        let limits = Limits { max_cost: u64::MAX, max_depth: 1_000, max_levels: 1_000, max_aliases: 100_000,
            max_root_fields: 100_000, max_selections: u64::MAX, max_tokens: usize::MAX, ..Limits::default() };
        let guard = Guard::new(SDL, &[], limits).unwrap();
        let none = Variables::default();
        let with_fragments = format!("{{{text}}} fragment a on Query{{{a}}} fragment b on Query{{{b}}}");
        let once = guard.check(&with_fragments, None, &none);
        // The parser has a depth limit of its own, which only one of the two forms may reach.
        if let (Ok(once), Ok(flat)) = (once, guard.check(&format!("{{{}}}", written_out(&text, &a, &b)), None, &none)) {
            prop_assert_eq!((once.cost, once.depth), (flat.cost, flat.depth));
        }
    }
}
