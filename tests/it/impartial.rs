//! What is shared by subscribers whoever they are has to answer the same to everybody: all of it is asked for as everybody, on
//! executions of their own.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use gateway::api::graphql::IMPARTIAL;
use serde_json::{Value, json};

use self::world::{AUTHOR, ORGANIZER, World, did_of};
use crate::support::{
    blueprint::{Blueprint, innermost},
    database::on_each_database,
};

/// What may depend on the caller, of all that hangs on an event of the subscription. What is new stands in `IMPARTIAL` once this
/// test has shown that it does not, and else here.
const PARTIAL: [&str; 3] = ["OnlineLocation.url", "ShadowAccount.blueskyProfile", "User.blueskyProfile"];

fn is_listed(of: &str, name: &str) -> bool {
    IMPARTIAL.iter().any(|(known, names)| *known == of && names.contains(&name))
}

/// Everything that is listed, from one field on, by names that tell where it is from. What is above itself has only those
/// fields there that lead nowhere.
fn call<'a>(schema: &'a Blueprint, path: &str, arguments: &BTreeMap<&str, String>, above: &mut Vec<&'a str>) -> String {
    let field = schema.field(path).unwrap();
    let given = arguments.get(path).cloned().unwrap_or_default();
    let mut text = format!("{}: {}{given} ", path.replace('.', "_"), field.name.node);
    let objects = schema.objects(innermost(&field.ty.node));
    if objects.is_empty() {
        return text;
    }
    text.push_str("{ __typename ");
    for object in objects {
        let is_above = above.contains(&object);
        above.push(object);
        let fields = schema.fields(object).into_iter().filter(|field| is_listed(object, &field.name.node));
        let fields = fields.filter(|field| !is_above || schema.objects(innermost(&field.ty.node)).is_empty());
        let fields: Vec<_> =
            fields.map(|field| call(schema, &format!("{object}.{}", field.name.node), arguments, above)).collect();
        write!(text, "... on {object} {{ __typename {} }} ", fields.concat()).unwrap();
        above.pop();
    }
    text.push_str("} ");
    text
}

/// The objects that hang on an event of the subscription, with all their fields.
fn reached(schema: &Blueprint) -> BTreeSet<String> {
    let mut reached = BTreeSet::from(["Subscription.eventIngested".to_owned()]);
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let (object, name) = path.split_once('.').unwrap();
        // What hangs on nothing but what may depend on the caller is not shared anyway.
        if !is_listed(object, name) {
            continue;
        }
        for object in schema.objects(innermost(&schema.field(&path).unwrap().ty.node)) {
            let fields = schema.fields(object).into_iter().map(|field| format!("{object}.{}", field.name.node));
            open.extend(fields.filter(|path| reached.insert(path.clone())));
        }
    }
    reached
}

/// The listed fields of objects.
fn listed() -> BTreeSet<String> {
    let schema = Blueprint::read();
    let objects = IMPARTIAL.iter().filter(|(of, _)| !schema.fields(of).is_empty());
    objects.flat_map(|(of, names)| names.iter().map(move |name| format!("{of}.{name}"))).collect()
}

#[test]
fn what_is_shared_with_everybody_is_listed_by_hand() {
    let schema = Blueprint::read();
    for (of, names) in IMPARTIAL {
        let known: Vec<&str> = match (schema.field(of), schema.inputs(of), schema.fields(of)) {
            (Some(field), ..) => field.arguments.iter().map(|argument| argument.node.name.node.as_str()).collect(),
            (None, inputs, fields) if fields.is_empty() => inputs,
            (.., fields) => fields.into_iter().map(|field| field.name.node.as_str()).collect(),
        };
        let missing: Vec<_> = names.iter().filter(|name| !known.contains(name)).collect();
        assert!(missing.is_empty() && !known.is_empty(), "{of} has no {missing:?}");
        // A field of which something is left out is shared by nobody who is somebody.
        let is_whole = !schema.fields(of).is_empty() || known.len() == names.len();
        assert!(is_whole, "{of} is {known:?}: say that of all, or of none");
    }
    let listed = listed();
    for path in &listed {
        let field = schema.field(path).unwrap();
        let is_for_some = field.directives.iter().any(|directive| directive.node.name.node == "access");
        assert!(!is_for_some, "{path} is not for everybody");
        assert!(field.arguments.is_empty() || IMPARTIAL.iter().any(|(of, _)| of == path), "{path} takes something");
    }
    let reached = reached(&schema);
    assert_eq!(listed.difference(&reached).collect::<Vec<_>>(), Vec::<&String>::new(), "nothing leads there");
    assert_eq!(reached.difference(&listed).collect::<Vec<_>>(), PARTIAL, "what is new");
}

/// The names of what has a value somewhere in an answer.
fn told(answer: &Value, into: &mut BTreeSet<String>) {
    match answer {
        Value::Object(fields) => {
            for (name, value) in fields {
                if !value.is_null() && *value != json!([]) {
                    into.insert(name.replace('_', "."));
                }
                told(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| told(item, into)),
        _ => {}
    }
}

/// The value of this name that is met first.
fn first<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    match answer {
        Value::Object(fields) => fields.get(name).or_else(|| fields.values().find_map(|value| first(value, name))),
        Value::Array(items) => items.iter().find_map(|item| first(item, name)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_with_everybody_answers_the_same_to_everybody() {
    let blueprint = Blueprint::read();
    on_each_database(async |database| {
        let world = World::open(database).await;
        let organizers = format!(
            "organizers: [{{ did: \"{}\" }}, {{ handle: \"{}.example.com\" }}]",
            did_of(ORGANIZER),
            did_of(AUTHOR).trim_start_matches("did:plc:")
        );
        let filters = [
            "",
            "source: [BLUESKY]",
            "operation: [CREATED]",
            &organizers,
            "startsAt: { from: \"2030-01-01T00:00:00Z\", to: \"2031-01-01T00:00:00Z\" }",
            "near: { latitude: 52.5, longitude: 13.4, radiusMeters: 100000 }",
        ];
        let mut pages: Vec<[String; 2]> = vec![Default::default()];
        let mut seen = BTreeSet::new();
        for filter in filters {
            let counted =
                world.ask(&format!("{{ eventChanges(filter: {{ {filter} }}) {{ changes {{ cursor }} }} }}")).await;
            let count = counted["eventChanges"]["changes"].as_array().unwrap().len();
            assert!(count >= 5, "{filter}: {counted}");
            for [answers, events] in pages.clone() {
                let arguments = BTreeMap::from([
                    ("Subscription.eventIngested", format!("(after: \"{}\", filter: {{ {filter} }})", world.start)),
                    ("Event.rsvps", answers),
                    ("ShadowAccount.events", events),
                ]);
                let document = call(&blueprint, "Subscription.eventIngested", &arguments, &mut Vec::new());
                let document = format!("subscription {{ {document} }}");
                let mut expected: Option<Vec<Value>> = None;
                for (name, actor) in &world.callers {
                    let answers = world.follow(actor, &document, count).await;
                    let expected = expected.get_or_insert_with(|| answers.clone());
                    assert_eq!(*expected, answers, "{name}: {document}");
                }
                let expected = expected.unwrap();
                let event = |told: &Value| told["Subscription_eventIngested"]["EventChange_event"].clone();
                let hidden = expected.iter().filter(|told| event(told).is_null()).count();
                assert!(0 < hidden && hidden < count, "drafts and the like are nobody's, not their organiser's either");
                let expected = json!(expected);
                told(&expected, &mut seen);
                if pages.len() == 1 {
                    // Of what was found, for the next rounds.
                    let answers = first(&expected, "RsvpEdge_cursor").unwrap();
                    let events = first(&expected, "EventEdge_cursor").unwrap();
                    pages = vec![
                        [
                            format!("(first: 1, after: {answers}, status: [CONFIRMED])"),
                            format!("(last: 1, before: {events})"),
                        ],
                        [format!("(last: 1, before: {answers})"), format!("(first: 1, after: {events})")],
                    ];
                }
            }
        }
        let listed = listed();
        let untold: Vec<_> = listed.difference(&seen).collect();
        assert_eq!(untold, Vec::<&String>::new(), "each is told at least once");
    })
    .await;
}
