//! What the guard knows of the schema, read from its own text: prices, arguments, inputs and directives.
//!
//! Prices come from `@cost`, so that what the schema shows is what is charged.

use std::collections::HashMap;

use async_graphql::{
    Name, Value,
    parser::{
        parse_schema,
        types::{
            BaseType, ConstDirective, DirectiveLocation, FieldDefinition, InputValueDefinition, OperationType, Type,
            TypeKind, TypeSystemDefinition,
        },
    },
};
use async_graphql_value::Value as Given;

use crate::error::{Error, Result};

/// Whether a scalar accepts a value.
pub(crate) type Accepts = fn(&Value) -> bool;

/// What every schema has, whether it prints it or not.
const BUILT_IN: &str = "
    directive @include(if: Boolean!) on FIELD | FRAGMENT_SPREAD | INLINE_FRAGMENT
    directive @skip(if: Boolean!) on FIELD | FRAGMENT_SPREAD | INLINE_FRAGMENT
";

/// The scalars of the specification, as strict as its rules for input.
const SCALARS: &[(&str, Accepts)] = &[
    ("Int", |value| matches!(value, Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()))),
    ("Float", |value| matches!(value, Value::Number(n) if n.as_f64().is_some())),
    ("String", |value| matches!(value, Value::String(_))),
    ("Boolean", |value| matches!(value, Value::Boolean(_))),
    ("ID", |value| match value {
        Value::String(_) => true,
        Value::Number(n) => n.is_i64(),
        _ => false,
    }),
];

/// A schema as the guard sees it.
#[derive(Debug)]
pub(super) struct Schema {
    fields: HashMap<Name, HashMap<Name, Field>>,
    inputs: HashMap<Name, Input>,
    directives: HashMap<Name, Directive>,
    /// Interfaces with the objects that implement them.
    interfaces: HashMap<Name, Vec<Name>>,
    roots: [Option<Name>; 3],
}

/// A field with its price.
#[derive(Debug)]
pub(super) struct Field {
    /// Points for the field itself.
    pub(super) weight: u64,
    /// Arguments whose value multiplies the cost of the children.
    pub(super) multipliers: Vec<Name>,
    /// Belongs to a list as a whole: no argument of the parent multiplies it.
    pub(super) once: bool,
    pub(super) arguments: Slots,
    /// The innermost type of what it returns.
    pub(super) result: Name,
}

/// Places for values, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<(Name, Slot)>);

/// An argument, or a field of an input object.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) ty: Type,
    pub(super) default: Option<Given>,
    /// Points for giving a value.
    pub(super) weight: u64,
}

/// A type of what callers send.
#[derive(Debug)]
pub(super) enum Input {
    Scalar(Accepts),
    /// Values with the points for naming them.
    Enum(HashMap<Name, u64>),
    Object {
        fields: Slots,
        /// Exactly one field must be given.
        one_of: bool,
    },
}

/// A directive that documents may use.
#[derive(Debug)]
pub(super) struct Directive {
    pub(super) arguments: Slots,
    pub(super) locations: Vec<DirectiveLocation>,
}

impl Schema {
    /// Reads a schema's text; `scalars` are those that it declares, by name.
    pub(super) fn read(sdl: &str, scalars: &[(&str, Accepts)]) -> Result<Self> {
        let scalars = SCALARS.iter().chain(scalars);
        let mut read = Self {
            fields: HashMap::new(),
            inputs: scalars.map(|(name, accepts)| (Name::new(name), Input::Scalar(*accepts))).collect(),
            directives: HashMap::new(),
            interfaces: HashMap::new(),
            roots: ["Query", "Mutation", "Subscription"].map(|name| Some(Name::new(name))),
        };
        for text in [BUILT_IN, sdl] {
            for definition in parse_schema(text).map_err(Error::bug)?.definitions {
                read.add(definition);
            }
        }
        Ok(read)
    }

    fn add(&mut self, definition: TypeSystemDefinition) {
        match definition {
            TypeSystemDefinition::Schema(schema) => {
                let schema = schema.node;
                self.roots =
                    [schema.query, schema.mutation, schema.subscription].map(|root| root.map(|name| name.node));
            }
            TypeSystemDefinition::Directive(directive) => {
                let directive = directive.node;
                let locations = directive.locations.iter().map(|location| location.node).collect();
                let arguments = Slots::read(directive.arguments.iter().map(|argument| &argument.node));
                self.directives.insert(directive.name.node, Directive { arguments, locations });
            }
            TypeSystemDefinition::Type(ty) => {
                let (name, directives) = (ty.node.name.node, ty.node.directives);
                match ty.node.kind {
                    TypeKind::Object(object) => {
                        for interface in object.implements {
                            self.interfaces.entry(interface.node).or_default().push(name.clone());
                        }
                        self.add_fields(name, object.fields.iter().map(|field| &field.node));
                    }
                    TypeKind::Interface(interface) => {
                        self.interfaces.entry(name.clone()).or_default();
                        self.add_fields(name, interface.fields.iter().map(|field| &field.node));
                    }
                    TypeKind::InputObject(object) => {
                        let fields = Slots::read(object.fields.iter().map(|field| &field.node));
                        let one_of = directives.iter().any(|directive| directive.node.name.node == "oneOf");
                        self.inputs.insert(name, Input::Object { fields, one_of });
                    }
                    TypeKind::Enum(set) => {
                        let weights = set.values.iter().map(|value| {
                            let value = &value.node;
                            let cost = cost(value.directives.iter().map(|directive| &directive.node));
                            (value.value.node.clone(), weight(cost).unwrap_or(0))
                        });
                        self.inputs.insert(name, Input::Enum(weights.collect()));
                    }
                    TypeKind::Scalar | TypeKind::Union(_) => {}
                }
            }
        }
    }

    fn add_fields<'a>(&mut self, of: Name, fields: impl Iterator<Item = &'a FieldDefinition>) {
        self.fields.entry(of).or_default().extend(fields.map(|field| (field.name.node.clone(), Field::read(field))));
    }

    /// The type at the root of an operation.
    pub(super) fn root(&self, operation: OperationType) -> Option<&Name> {
        let [query, mutation, subscription] = &self.roots;
        match operation {
            OperationType::Query => query.as_ref(),
            OperationType::Mutation => mutation.as_ref(),
            OperationType::Subscription => subscription.as_ref(),
        }
    }

    /// A field of a type; `None` for unknown ones, which validation refuses, and for those of introspection.
    pub(super) fn field(&self, of: &Name, name: &Name) -> Option<&Field> {
        self.fields.get(of)?.get(name)
    }

    /// Every field with the type that it is of.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Name, &Name, &Field)> {
        self.fields.iter().flat_map(|(of, fields)| fields.iter().map(move |(name, field)| (of, name, field)))
    }

    /// The objects that implement an interface; `None` for what is none.
    pub(super) fn objects_of(&self, interface: &Name) -> Option<&[Name]> {
        self.interfaces.get(interface).map(Vec::as_slice)
    }

    /// A type of what callers send; `None` for unknown ones, which validation refuses.
    pub(super) fn input(&self, name: &Name) -> Option<&Input> {
        self.inputs.get(name)
    }

    /// A directive by its name.
    pub(super) fn directive(&self, name: &Name) -> Option<&Directive> {
        self.directives.get(name)
    }
}

impl Field {
    fn read(field: &FieldDefinition) -> Self {
        let cost = cost(field.directives.iter().map(|directive| &directive.node));
        let names = match cost.and_then(|cost| cost.get_argument("multipliers")).map(|names| &names.node) {
            Some(Value::List(names)) => names.as_slice(),
            _ => &[],
        };
        let multiplier = |name: &Value| match name {
            Value::String(name) => Some(Name::new(name)),
            _ => None,
        };
        Self {
            weight: weight(cost).unwrap_or(1),
            multipliers: names.iter().filter_map(multiplier).collect(),
            once: cost.and_then(|cost| cost.get_argument("once")).is_some_and(|once| once.node == Value::Boolean(true)),
            arguments: Slots::read(field.arguments.iter().map(|argument| &argument.node)),
            result: named(&field.ty.node).clone(),
        }
    }
}

impl Slots {
    fn read<'a>(values: impl Iterator<Item = &'a InputValueDefinition>) -> Self {
        let slot = |value: &InputValueDefinition| {
            let slot = Slot {
                ty: value.ty.node.clone(),
                default: value.default_value.as_ref().map(|default| default.node.clone().into_value()),
                weight: weight(cost(value.directives.iter().map(|directive| &directive.node))).unwrap_or(0),
            };
            (value.name.node.clone(), slot)
        };
        Self(values.map(slot).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, Slot)> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, slot)| slot)
    }
}

fn cost<'a>(mut directives: impl Iterator<Item = &'a ConstDirective>) -> Option<&'a ConstDirective> {
    directives.find(|directive| directive.name.node == "cost")
}

fn weight(cost: Option<&ConstDirective>) -> Option<u64> {
    match &cost?.get_argument("weight")?.node {
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

/// The innermost type.
pub(super) fn named(mut ty: &Type) -> &Name {
    loop {
        match &ty.base {
            BaseType::Named(name) => return name,
            BaseType::List(inner) => ty = inner,
        }
    }
}
