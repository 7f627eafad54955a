//! Values, their prices, and names that nobody else checks.

use async_graphql::{Value, Variables, value};

use super::super::{Accepts, Checked, Code, Guard, Limits, Refusal};

const SDL: &str = r#"
directive @cost(weight: Int! = 1, multipliers: [String!], once: Boolean) on FIELD_DEFINITION | INPUT_FIELD_DEFINITION | ENUM_VALUE
directive @tag(name: String) on QUERY | VARIABLE_DEFINITION | FRAGMENT_DEFINITION
scalar Even
scalar Whatever
enum Order { NAME RANK @cost(weight: 50) }
input Key @oneOf { id: ID slug: String }
input Area { latitude: Float! size: Int = 5 }
input Filter { text: String @cost(weight: 200) near: Area @cost(weight: 100) keys: [Key!] order: Order even: Even any: Whatever }
input Sorted { order: Order! = RANK }
type Query {
  find(by: Key!): String
  list(first: Int, filter: Filter, order: Order, sorted: Sorted, flags: [Boolean]): [Item!] @cost(weight: 1, multipliers: ["first"])
  page(size: Int! = 10): String
}
type Item { name: String total: Int @cost(weight: 50, once: true) items(first: Int = 2, filter: Filter): [Item!] @cost(multipliers: ["first"]) }
schema { query: Query }
"#;

const SCALARS: &[(&str, Accepts)] =
    &[("Even", |value| matches!(value, Value::Number(n) if n.as_i64().is_some_and(|n| n % 2 == 0)))];

fn check(text: &str, variables: Value) -> Result<Checked, Refusal> {
    let guard = Guard::new(SDL, SCALARS, Limits::default()).unwrap();
    guard.check(text, None, &Variables::from_value(variables))
}

fn cost(text: &str) -> u64 {
    check(text, value!({})).unwrap().cost
}

#[test]
fn literals_of_the_wrong_form_are_refused_where_they_stand() {
    for arguments in [
        "first: 2147483648",
        "first: -2147483649",
        "first: 1.0",
        r#"first: "1""#,
        "first: {a: 1}",
        "order: SIZE",
        r#"order: "NAME""#,
        "flags: [true, 1]",
        "flags: [[true]]",
        "filter: 1",
        "filter: {near: {}}",
        "filter: {near: {latitude: null}}",
        r#"filter: {near: {latitude: "1"}}"#,
        "filter: {near: {latitude: 1, size: 2147483648}}",
        "filter: {nothing: 1}",
        "filter: {even: 3}",
        "filter: {keys: [{}]}",
        "filter: {keys: [{id: 1, slug: \"a\"}]}",
        "filter: {keys: {id: null}}",
        "filter: {keys: [null]}",
        "sorted: {order: null}",
    ] {
        let refusal = check(&format!("{{\n list({arguments}){{name}}}}"), value!({})).unwrap_err();
        assert_eq!(refusal.code, Code::ValidationFailed, "{arguments}: {refusal:?}");
        assert_eq!(refusal.at.map(|at| (at.line, at.column)), Some((2, 7)), "{arguments}");
    }
    let nested = check("{list(filter: {keys: [{id: 1}, {id: 1.5}]}){name}}", value!({})).unwrap_err();
    assert_eq!(nested.message, "filter.keys.1.id: a value of type ID is expected");
    assert_eq!(check("{page(size: null)}", value!({})).unwrap_err().code, Code::ValidationFailed);
    assert_eq!(
        check("query($n: Int = 2147483648){page(size: $n)}", value!({})).unwrap_err().code,
        Code::ValidationFailed
    );
    for fine in [
        "first: 2147483647",
        "first: null",
        "flags: true",
        "flags: [true, null]",
        "filter: null",
        "filter: {near: {latitude: 1}}",
        "filter: {near: {latitude: 1e3, size: null}, even: 4}",
        "filter: {keys: {id: 7}, any: [1, {a: B}]}",
        "sorted: {}",
    ] {
        assert!(check(&format!("{{list({fine}){{name}}}}"), value!({})).is_ok(), "{fine}");
    }
}

#[test]
fn variables_are_held_against_what_they_are_declared_as() {
    let text = "query($n: Int, $f: Filter, $k: [Key!], $o: Order = NAME) \
        {list(first: $n, filter: $f, order: $o){name} more: list(filter: {keys: $k}){name}}";
    for fine in [
        value!({}),
        value!({"n": null, "f": null, "k": null, "o": null}),
        value!({"n": 3, "f": {"order": "RANK", "even": 2, "near": {"latitude": 1}}, "k": {"slug": "a"}, "o": "RANK"}),
        value!({"unknown": {"a": []}}),
    ] {
        assert!(check(text, fine.clone()).is_ok(), "{fine}");
    }
    for wrong in [
        value!({"n": 2_147_483_648_u64}),
        value!({"n": 1.5}),
        value!({"n": "1"}),
        value!({"f": []}),
        value!({"f": {"near": {}}}),
        value!({"f": {"even": 1}}),
        value!({"f": {"order": "SIZE"}}),
        value!({"f": {"nothing": null}}),
        value!({"k": [{"id": 1, "slug": "a"}]}),
        value!({"k": [{"id": null}]}),
        value!({"o": 1}),
    ] {
        let refusal = check(text, wrong.clone()).unwrap_err();
        assert_eq!(refusal.code, Code::BadInput, "{wrong}: {refusal:?}");
        assert!(refusal.at.is_some() && refusal.message.starts_with('$'), "{refusal:?}");
    }
}

#[test]
fn a_variable_that_is_null_is_refused_only_where_null_is() {
    let lookup = "query($id: ID){find(by: {id: $id})}";
    for (variables, code) in [(value!({}), Code::BadInput), (value!({"id": null}), Code::BadInput)] {
        assert_eq!(check(lookup, variables).unwrap_err().code, code);
    }
    assert!(check(lookup, value!({"id": 5})).is_ok());
    assert!(check("query($id: ID = 5){find(by: {id: $id})}", value!({})).is_ok());
    let two = "query($id: ID, $slug: String){find(by: {id: $id, slug: $slug})}";
    assert_eq!(check(two, value!({"id": 5})).unwrap_err().code, Code::ValidationFailed);
    let with_default = "query($n: Int = 5){page(size: $n)}";
    assert!(check(with_default, value!({})).is_ok());
    assert_eq!(check(with_default, value!({"n": null})).unwrap_err().code, Code::BadInput);
    let part = "query($size: Int, $at: Float = 1){list(filter: {near: {latitude: $at, size: $size}}){name}}";
    assert!(check(part, value!({})).is_ok());
    assert_eq!(check(part, value!({"at": null})).unwrap_err().code, Code::BadInput);
    let skip = "query($s: Boolean = true){page @skip(if: $s)}";
    assert_eq!(check(skip, value!({"s": null})).unwrap_err().code, Code::BadInput);
}

#[test]
fn what_makes_a_scan_costs_wherever_it_is_given() {
    assert_eq!(cost("{list(first: 2){name}}"), 1 + 2);
    assert_eq!(cost(r#"{list(first: 2, filter: {text: "a"}){name}}"#), 201 + 2);
    assert_eq!(cost("{list(first: 2, filter: {text: null}){name}}"), 1 + 2);
    assert_eq!(cost(r#"{list(first: 2, filter: {text: "a", near: {latitude: 1}}, order: RANK){name}}"#), 351 + 2);
    assert_eq!(cost("{list(first: 2, order: NAME){name}}"), 1 + 2);
    assert_eq!(cost("{list(first: 2, sorted: {}){name}}"), 51 + 2, "the default of an input field");
    let nested = r#"{list(first: 3){items(filter: {text: "a"}){name}}}"#;
    assert_eq!(cost(nested), 1 + 3 * (201 + 2), "once for each item");
    let fragment = r#"{list(first: 3){...a ...a}} fragment a on Item{items(filter: {text: "a"}){name}}"#;
    assert_eq!(cost(fragment), 1 + 3 * 2 * (201 + 2));
    let variables = "query($f: Filter = {text: \"a\"}, $t: String, $o: Order)\
        {list(first: 1, filter: $f, order: $o){name} more: list(first: 1, filter: {text: $t}){name}}";
    for (given, points) in [
        (value!({}), 200),
        (value!({"f": null}), 0),
        (value!({"f": {"text": "b", "order": "RANK"}}), 250),
        (value!({"f": {}, "t": "b", "o": "RANK"}), 250),
        (value!({"f": {}, "t": null, "o": "NAME"}), 0),
    ] {
        assert_eq!(check(variables, given.clone()).unwrap().cost, 4 + points, "{given}");
    }
}

#[test]
fn what_belongs_to_a_list_is_charged_once() {
    assert_eq!(cost("{list(first: 9){name total}}"), 1 + 9 + 50);
    assert_eq!(cost("{list(first: 9){...a ... {name}}} fragment a on Item{name total}"), 1 + 9 * 2 + 50);
    assert_eq!(cost("{list(first: 9){items(first: 3){total name}}}"), 1 + 9 * (1 + 50 + 3));
}

#[test]
fn unknown_directives_and_arguments_of_typename_are_refused() {
    for text in [
        "{page @nothing}",
        "{page @tag}",
        "{page @cost(weight: 1)}",
        "query @skip(if: true) {page}",
        "query @nothing {page}",
        "query($n: Int @nothing){list(first: $n){name}}",
        "{... @nothing {page}}",
        "{...a @nothing} fragment a on Query{page}",
        "{...a} fragment a on Query @nothing {page}",
        "{page} fragment a on Query{page @nothing}",
        "query A{page} query B{page @nothing}",
        "{page @skip(unless: true)}",
        "{page @skip}",
        "{page @include(if: 1)}",
        "{__typename(a: 1)}",
        "{list{__typename(a: 1)}}",
    ] {
        let guard = Guard::new(SDL, SCALARS, Limits::default()).unwrap();
        let name = text.contains("query A").then_some("A");
        let refusal = guard.check(text, name, &Variables::default()).unwrap_err();
        assert_eq!(refusal.code, Code::ValidationFailed, "{text}");
        assert!(refusal.at.is_some(), "{text}");
    }
    let fine = "query($n: Int @tag(name: \"a\")) @tag {__typename page @skip(if: true) @include(if: false) \
        ... @skip(if: false) {a: page} ...b @include(if: true)} fragment b on Query @tag {list(first: $n){name}}";
    assert!(check(fine, value!({})).is_ok());
}
