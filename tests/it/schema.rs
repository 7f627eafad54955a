//! The printed schema: that it is up to date, and that it keeps its own rules.

#![expect(clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use async_graphql::parser::{
    parse_schema,
    types::{
        BaseType, ConstDirective, FieldDefinition, InputValueDefinition, ServiceDocument, Type, TypeDefinition,
        TypeKind, TypeSystemDefinition,
    },
};
use gateway::{api::graphql::sdl, error::Code};

fn schema() -> ServiceDocument {
    parse_schema(sdl()).expect("the printed schema is a schema")
}

fn declared(document: &ServiceDocument) -> impl Iterator<Item = &TypeDefinition> {
    document.definitions.iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(&definition.node),
        _ => None,
    })
}

/// Fields that callers read; not those of inputs.
fn fields(document: &ServiceDocument) -> Vec<(String, &FieldDefinition)> {
    let mut found = Vec::new();
    for definition in declared(document) {
        let fields = match &definition.kind {
            TypeKind::Object(object) => &object.fields,
            TypeKind::Interface(interface) => &interface.fields,
            _ => continue,
        };
        let path = |field: &FieldDefinition| format!("{}.{}", definition.name.node, field.name.node);
        found.extend(fields.iter().map(|field| (path(&field.node), &field.node)));
    }
    found
}

fn directive<'a>(field: &'a FieldDefinition, name: &str) -> Option<&'a ConstDirective> {
    field.directives.iter().map(|directive| &directive.node).find(|directive| directive.name.node == name)
}

fn innermost(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(ty) => innermost(ty),
    }
}

#[test]
fn the_changelog_names_what_can_be_asked_for() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let told = fs::read_to_string(&path).expect("there is a changelog");
    let told: String = told.split("### Schema").skip(1).collect();
    let words: BTreeSet<_> = told.split('`').skip(1).step_by(2).collect();
    let document = schema();
    let doors = ["Query", "Mutation", "Subscription", "Viewer", "Admin"];
    let missing: Vec<_> = fields(&document)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.split_once('.').is_some_and(|(ty, field)| doors.contains(&ty) && !words.contains(field)))
        .collect();
    assert!(missing.is_empty(), "CHANGELOG.md, \"Schema\", leaves out {missing:?}");
}

#[test]
fn schema_graphql_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept.trim_end() == sdl().trim_end(),
        "schema.graphql is stale: run `cargo run -- schema > schema.graphql` and look at the difference"
    );
}

/// What `ARCHITECTURE.md` holds between these lines is written from the program.
const TABLE: [&str; 2] = ["<!-- codes: written by the test, see below -->\n", "<!-- end of codes -->\n"];

#[test]
#[expect(clippy::disallowed_methods, reason = "whether a test mends a document is not a setting of the gateway")]
fn the_table_of_error_codes_is_up_to_date() {
    let mut rows = "| code | what happened | who acts |\n| --- | --- | --- |\n".to_owned();
    for code in Code::ALL {
        writeln!(rows, "| `{}` | {} | {} |", code.as_str(), code.meaning(), code.who_acts()).expect("text grows");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("ARCHITECTURE.md is there");
    let (before, rest) = text.split_once(TABLE[0]).expect("the table begins");
    let (kept, after) = rest.split_once(TABLE[1]).expect("the table ends");
    if kept != rows && std::env::var_os("UPDATE_DOCS").is_some() {
        let [begin, end] = TABLE;
        fs::write(&path, [before, begin, &rows, end, after].concat()).expect("ARCHITECTURE.md can be written");
        return;
    }
    assert!(
        kept == rows,
        "the error codes in ARCHITECTURE.md are stale: run `UPDATE_DOCS=1 cargo nextest run \
         the_table_of_error_codes_is_up_to_date` and look at the difference"
    );
}

#[test]
fn codes_are_told_apart() {
    let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for code in Code::ALL {
        let text = code.as_str();
        assert!(text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{text}");
        assert!(code.meaning().ends_with('.') && !code.meaning().contains('|'), "{text}: {}", code.meaning());
    }
}

#[test]
fn everything_is_described() {
    let document = schema();
    let mut bare = Vec::new();
    let inputs = |at: &str, values: &[async_graphql::Positioned<InputValueDefinition>], bare: &mut Vec<String>| {
        for value in values.iter().filter(|value| value.node.description.is_none()) {
            bare.push(format!("{at}.{}", value.node.name.node));
        }
    };
    for definition in declared(&document) {
        let name = definition.name.node.as_str();
        if definition.description.is_none() {
            bare.push(name.to_owned());
        }
        match &definition.kind {
            TypeKind::Enum(set) => {
                for value in set.values.iter().filter(|value| value.node.description.is_none()) {
                    bare.push(format!("{name}.{}", value.node.value.node));
                }
            }
            TypeKind::InputObject(input) => inputs(name, &input.fields, &mut bare),
            _ => {}
        }
    }
    for (path, field) in fields(&document) {
        if field.description.is_none() {
            bare.push(path.clone());
        }
        inputs(&path, &field.arguments, &mut bare);
    }
    for definition in &document.definitions {
        if let TypeSystemDefinition::Directive(directive) = definition
            && directive.node.description.is_none()
            && !["include", "skip", "deprecated", "specifiedBy", "oneOf"].contains(&directive.node.name.node.as_str())
        {
            bare.push(format!("@{}", directive.node.name.node));
        }
    }
    assert!(bare.is_empty(), "without a description: {bare:#?}");
}

/// Non-null objects that are part of their parent's row, or of a page that was loaded with it.
const PARTS: &[&str] = &[
    "AttendanceSummary",
    "AuditEntry",
    "AuditEntryEdge",
    "EventSource",
    "OperationLimits",
    "PageInfo",
    "Event",
    "EventEdge",
    "EventLink",
    "EventLocation",
    "Freshness",
    "Rsvp",
    "RsvpEdge",
    "ShadowAccount",
    "ShadowAccountBurden",
    "ShadowAccountBurdenEdge",
    "ShadowAccountEdge",
    "EventChange",
    "IngestFailure",
    "IngestFailureChange",
    "IngestFailureCount",
    "IngestFailureDecision",
    "IngestFailureEdge",
    "IngestFailureEntry",
    "IngestedEvent",
    "IngestedRsvp",
    "ServiceKey",
    "ServiceKeyEdge",
    "User",
    // Of a payload; what hangs on it may fail by itself.
    "Query",
    "UserError",
];

/// Roots, and what else is looked up when it is asked for: the type may be a part elsewhere, here it can fail.
const LOOKED_UP: &[&str] = &[
    "Event.organizer",
    "Event.rsvps",
    "Rsvp.event",
    "Rsvp.attendee",
    "ShadowAccount.events",
    "ServiceInfo.newestCursor",
    "IngestFailure.history",
    "IngestFailureChange.failure",
    "Admin.ingestFailureCounts",
    "IngestedRsvp.rsvp",
    "BlueskyLink.permissions",
    "Viewer.claimableAccounts",
    "Viewer.user",
];

#[test]
fn what_can_fail_is_nullable() {
    let document = schema();
    let objects: BTreeSet<&str> = declared(&document)
        .filter(|definition| {
            matches!(definition.kind, TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_))
        })
        .map(|definition| definition.name.node.as_str())
        .collect();
    let mut wrong = Vec::new();
    for (path, field) in fields(&document) {
        // A subscription field fails by ending the stream.
        let is_root = path.starts_with("Query.") || path.starts_with("Mutation.");
        let ty = &field.ty.node;
        let is_part = !objects.contains(innermost(ty)) || PARTS.contains(&innermost(ty));
        let may_fail = is_root || LOOKED_UP.contains(&path.as_str()) || !is_part || path.ends_with(".totalCount");
        if may_fail && !ty.nullable && !path.starts_with("Subscription.") {
            wrong.push(format!("{path} can fail and is not nullable"));
        }
        if !may_fail && ty.nullable && directive(field, "semanticNonNull").is_some() && !path.contains("AtprotoRecord.")
        {
            wrong.push(format!("{path} cannot fail: make it non-null"));
        }
        // A list that cannot be null as a whole says so; its members too, unless they can be missing.
        if directive(field, "semanticNonNull").is_some() && !ty.nullable {
            wrong.push(format!("{path} is non-null already"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_list_of_rows_is_a_connection_with_a_price() {
    let document = schema();
    let mut wrong = Vec::new();
    for (path, field) in fields(&document) {
        let arguments: BTreeSet<&str> =
            field.arguments.iter().map(|argument| argument.node.name.node.as_str()).collect();
        if innermost(&field.ty.node).ends_with("Connection") {
            if !["first", "after", "last", "before"].iter().all(|argument| arguments.contains(argument)) {
                wrong.push(format!("{path} lacks an argument of a connection"));
            }
            let multipliers = directive(field, "cost").and_then(|cost| cost.get_argument("multipliers"));
            if multipliers.map(|value| value.node.to_string()).as_deref() != Some(r#"["first", "last"]"#) {
                wrong.push(format!("{path} is not priced by its page size"));
            }
        }
        let cost = |argument| directive(field, "cost").and_then(|cost| cost.get_argument(argument));
        if path.ends_with("Connection.totalCount")
            && !(cost("weight").is_some_and(|weight| weight.node.to_string() == "50") && cost("once").is_some())
        {
            wrong.push(format!("{path} has no price of its own"));
        }
    }
    // What makes the database look at more rows than it returns.
    for priced in [
        "query: String @cost(weight: 1000)",
        "near: GeoRadius @cost(weight: 50)",
        "minimumEventCount: Int @cost(weight: 1000)",
        "text: String @cost(weight: 1000)",
        "ATTENDEE_COUNT @cost(weight: 50)",
    ] {
        if !sdl().contains(priced) {
            wrong.push(format!("{priced} is not in the schema"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_follow_the_conventions() {
    let document = schema();
    let mut wrong = Vec::new();
    let is_camel = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let is_shouting = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    for definition in declared(&document) {
        let name = definition.name.node.as_str();
        match &definition.kind {
            TypeKind::Enum(set) => {
                let values = set.values.iter().map(|value| value.node.value.node.as_str());
                wrong.extend(values.filter(|value| !is_shouting(value)).map(|value| format!("{name}.{value}")));
            }
            TypeKind::InputObject(input) => {
                let names = input.fields.iter().map(|field| field.node.name.node.as_str());
                wrong.extend(names.filter(|field| !is_camel(field)).map(|field| format!("{name}.{field}")));
            }
            _ => {}
        }
    }
    for (path, field) in fields(&document) {
        let names = field.arguments.iter().map(|argument| argument.node.name.node.as_str());
        let names = names.chain([field.name.node.as_str()]);
        wrong.extend(names.filter(|name| !is_camel(name)).map(|name| format!("{path}: {name}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
