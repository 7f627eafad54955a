//! The values that a request sends, held against the types of the schema before anything runs.
//!
//! The library coerces an argument only when its field is executed, and a failure there costs the whole `data`. So
//! everything is checked here: variables against their declared types, literals with the variables inside them against
//! the place where they stand. What remains for the library: names that don't exist, and whether a variable's type fits
//! its place.

use std::{collections::HashMap, fmt::Write as _};

use async_graphql::{
    Name, Pos, Positioned, Variables,
    parser::types::{BaseType, OperationDefinition, Type, VariableDefinition},
};
use async_graphql_value::Value as Given;

use super::{
    refusal::{Code, ECHO, Refusal, clip},
    schema::{Input, Schema, Slot, Slots},
};

/// The variables of one operation, checked, with the schema that other values are checked against.
pub(super) struct Values<'a> {
    schema: &'a Schema,
    variables: HashMap<&'a str, Variable>,
}

struct Variable {
    state: State,
    /// Points for what it holds.
    weight: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No value and no default: as if the place were left out.
    Absent,
    Null,
    Present,
}

/// Where a value comes from: enums are names in a document and strings in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Document,
    Variables,
}

impl Origin {
    const fn code(self) -> Code {
        match self {
            Self::Document => Code::ValidationFailed,
            Self::Variables => Code::BadInput,
        }
    }
}

/// What is wrong with a value, and where inside it.
struct Wrong {
    code: Code,
    what: String,
    /// From the innermost outwards.
    path: Vec<String>,
}

impl Wrong {
    fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), path: Vec::new() }
    }

    fn of_type(code: Code, ty: &Type) -> Self {
        Self::new(code, format!("a value of type {ty} is expected"))
    }

    fn under(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }

    fn refusal(self, at: Pos) -> Refusal {
        let mut message = String::new();
        for (index, step) in self.path.iter().rev().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            // Writing to a string cannot fail.
            write!(message, "{dot}{step}").ok();
        }
        Refusal::new(self.code, format!("{}: {}", clip(&message, ECHO), clip(&self.what, ECHO))).at(at)
    }
}

type Weight = Result<u64, Wrong>;

impl<'a> Values<'a> {
    /// Checks the variables of an operation.
    pub(super) fn read(
        schema: &'a Schema,
        operation: &'a OperationDefinition,
        given: &Variables,
    ) -> Result<Self, Refusal> {
        let mut values = Self { schema, variables: HashMap::new() };
        for definition in &operation.variable_definitions {
            let name = &definition.node.name.node;
            let variable = values
                .variable(&definition.node, given)
                .map_err(|wrong| wrong.under(format!("${name}")).refusal(definition.pos))?;
            values.variables.insert(name.as_str(), variable);
        }
        Ok(values)
    }

    fn variable(&self, definition: &VariableDefinition, given: &Variables) -> Result<Variable, Wrong> {
        let ty = &definition.var_type.node;
        let checked = |value: Given, origin| {
            let weight = self.weigh(ty, &value, origin)?;
            Ok(Variable { state: if value == Given::Null { State::Null } else { State::Present }, weight })
        };
        let default = definition.default_value.as_ref().map(|value| value.node.clone().into_value());
        let default = default.map(|value| checked(value, Origin::Document)).transpose()?;
        match (given.get(&definition.name.node), default) {
            (Some(value), _) => checked(value.clone().into_value(), Origin::Variables),
            (None, Some(default)) => Ok(default),
            (None, None) if ty.nullable => Ok(Variable { state: State::Absent, weight: 0 }),
            (None, None) => Err(Wrong::of_type(Code::BadInput, ty)),
        }
    }

    /// Checks the arguments of a field or a directive at this place; the points that they cost.
    pub(super) fn arguments(
        &self,
        slots: &Slots,
        given: &[(Positioned<Name>, Positioned<Given>)],
        at: Pos,
    ) -> Result<u64, Refusal> {
        slots.iter().try_fold(0_u64, |sum, (name, slot)| {
            let given = given.iter().find(|(argument, _)| argument.node == *name);
            let weight = self
                .slot(slot, given.map(|(_, value)| &value.node), Origin::Document)
                .map_err(|wrong| wrong.under(name.as_str()).refusal(given.map_or(at, |(name, _)| name.pos)))?;
            Ok(sum.saturating_add(weight))
        })
    }

    /// A place that may be left out.
    fn slot(&self, slot: &Slot, given: Option<&Given>, origin: Origin) -> Weight {
        match (given, &slot.default) {
            (Some(value), default) => match (self.state(value), default) {
                (State::Present, _) => Ok(self.weigh(&slot.ty, value, origin)?.saturating_add(slot.weight)),
                (State::Absent, Some(default)) => self.weigh(&slot.ty, default, Origin::Document),
                _ => self.weigh(&slot.ty, value, origin),
            },
            (None, Some(default)) => self.weigh(&slot.ty, default, Origin::Document),
            (None, None) if slot.ty.nullable => Ok(0),
            (None, None) => Err(Wrong::of_type(origin.code(), &slot.ty)),
        }
    }

    fn state(&self, value: &Given) -> State {
        match value {
            Given::Null => State::Null,
            Given::Variable(name) => self.variables.get(name.as_str()).map_or(State::Present, |known| known.state),
            _ => State::Present,
        }
    }

    /// Holds a value against its type; the points for what it names.
    fn weigh(&self, ty: &Type, value: &Given, origin: Origin) -> Weight {
        match value {
            Given::Variable(name) => match self.variables.get(name.as_str()) {
                // Checked against its own type, which validation compares with this one.
                Some(Variable { state: State::Present, weight }) => Ok(*weight),
                Some(_) if !ty.nullable => Err(Wrong::of_type(Code::BadInput, ty).under(format!("${name}"))),
                _ => Ok(0),
            },
            Given::Null if ty.nullable => Ok(0),
            Given::Null => Err(Wrong::of_type(origin.code(), ty)),
            _ => match &ty.base {
                BaseType::Named(name) => self.named(name, ty, value, origin),
                BaseType::List(inner) => match value {
                    Given::List(items) => items.iter().enumerate().try_fold(0_u64, |sum, (index, item)| {
                        let weight = self.weigh(inner, item, origin).map_err(|wrong| wrong.under(index.to_string()))?;
                        Ok(sum.saturating_add(weight))
                    }),
                    // One value stands for a list of one.
                    single => self.weigh(inner, single, origin),
                },
            },
        }
    }

    fn named(&self, name: &Name, ty: &Type, value: &Given, origin: Origin) -> Weight {
        let wrong = || Wrong::of_type(origin.code(), ty);
        match (self.schema.input(name), value) {
            (None, _) => Ok(0),
            (Some(Input::Enum(weights)), Given::Enum(value)) => weights.get(value.as_str()).copied().ok_or_else(wrong),
            (Some(Input::Enum(weights)), Given::String(value)) if origin == Origin::Variables => {
                weights.get(value.as_str()).copied().ok_or_else(wrong)
            }
            (Some(Input::Object { fields, one_of }), Given::Object(given)) => {
                if *one_of {
                    self.exactly_one(given.values(), origin)?;
                }
                if let Some(unknown) = given.keys().find(|name| fields.get(name).is_none()) {
                    return Err(Wrong::new(origin.code(), format!("there is no field {unknown}")));
                }
                fields.iter().try_fold(0_u64, |sum, (name, slot)| {
                    let weight = self
                        .slot(slot, given.get(name.as_str()), origin)
                        .map_err(|wrong| wrong.under(name.as_str()))?;
                    Ok(sum.saturating_add(weight))
                })
            }
            // A scalar made of a document's lists and objects may hold variables; of those nothing is known.
            (Some(Input::Scalar(accepts)), value) => match value.clone().into_const() {
                Some(value) if !accepts(&value) => Err(wrong()),
                _ => Ok(0),
            },
            _ => Err(wrong()),
        }
    }

    fn exactly_one<'b>(&self, mut given: impl Iterator<Item = &'b Given>, origin: Origin) -> Result<(), Wrong> {
        let what = "exactly one field is expected, and it must not be null";
        match (given.next(), given.next()) {
            (Some(value), None) if self.state(value) == State::Present => Ok(()),
            (Some(Given::Variable(_)), None) => Err(Wrong::new(Code::BadInput, what)),
            _ => Err(Wrong::new(origin.code(), what)),
        }
    }
}
