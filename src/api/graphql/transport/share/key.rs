//! Which subscriptions mean the same.

use std::{collections::BTreeMap, sync::Arc};

use async_graphql::{
    Data, Name, Value as ConstValue, Variables,
    parser::types::{ExecutableDocument, Field, OperationDefinition, Selection},
};
use async_graphql_value::Value;

/// A part of the world, such as a tenant. Its runs are executed for nobody in particular: whoever is a member of one is shown
/// what nobody in particular sees there.
#[derive(Clone)]
pub(crate) struct Audience {
    id: i64,
    nobody: Arc<dyn Fn() -> Data + Send + Sync>,
}

impl Audience {
    /// The one of this number, with the data of an operation of nobody in particular.
    pub(crate) fn new(id: i64, nobody: impl Fn() -> Data + Send + Sync + 'static) -> Self {
        Self { id, nobody: Arc::new(nobody) }
    }

    /// Data for one execution.
    pub(super) fn nobody(&self) -> Data {
        (self.nobody)()
    }
}

/// A root field that can be shared: its source follows the plan of a [`Course`](super::super::Course).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumable {
    /// Its name.
    pub(crate) field: &'static str,
    /// The argument that says after which position it begins.
    pub(crate) after: &'static str,
    /// A field of its arguments whose meaning depends on the moment: who uses it runs alone.
    pub(crate) momentary: &'static str,
}

/// What is the same for all members of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    audience: i64,
    query: String,
    operation: Option<String>,
    variables: String,
}

/// A subscription that may be shared.
pub(in super::super) struct Wish {
    pub(super) key: Key,
    pub(super) audience: Audience,
    /// It begins with what is behind a position.
    pub(super) resumes: bool,
}

/// An operation that passed the guard, as it was asked for.
pub(in super::super) struct Asked<'a> {
    pub(in super::super) query: &'a str,
    pub(in super::super) document: &'a ExecutableDocument,
    pub(in super::super) operation: Option<&'a str>,
    pub(in super::super) variables: &'a Variables,
}

impl Wish {
    /// Nothing where the operation has to run alone: it has another root field, or one that is not written plainly.
    pub(in super::super) fn of(asked: &Asked<'_>, audience: &Audience, shared: &[Resumable]) -> Option<Self> {
        let mut operations = asked.document.operations.iter();
        let (_, operation) = operations.find(|(name, _)| name.map(Name::as_str) == asked.operation)?;
        let operation = &operation.node;
        let [root] = operation.selection_set.node.items.as_slice() else { return None };
        let Selection::Field(field) = &root.node else { return None };
        let field = &field.node;
        let rule = shared.iter().find(|rule| field.name.node.as_str() == rule.field)?;
        let values = Values { operation, variables: asked.variables };
        if values.mention(field, rule.momentary) {
            return None;
        }
        let after = field.get_argument(rule.after).map(|value| &value.node);
        let resumes = after.is_some_and(|value| !values.is_null(value));
        // A variable that only says where to begin tells no two runs apart.
        let own = match after {
            Some(Value::Variable(name)) if asked.query.matches(&format!("${name}")).count() == 2 => Some(name),
            _ => None,
        };
        let variables: BTreeMap<&Name, &ConstValue> =
            asked.variables.iter().filter(|(name, _)| Some(*name) != own).collect();
        let key = Key {
            audience: audience.id,
            query: asked.query.to_owned(),
            operation: asked.operation.map(str::to_owned),
            variables: serde_json::to_string(&variables).ok()?,
        };
        Some(Self { key, audience: audience.clone(), resumes })
    }
}

/// What variables stand for.
struct Values<'a> {
    operation: &'a OperationDefinition,
    variables: &'a Variables,
}

impl Values<'_> {
    fn variable(&self, name: &Name) -> Option<&ConstValue> {
        let declared = || {
            let mut definitions = self.operation.variable_definitions.iter().map(|definition| &definition.node);
            definitions.find(|definition| definition.name.node == *name)?.default_value()
        };
        self.variables.get(name).or_else(declared)
    }

    fn is_null(&self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Variable(name) => self.variable(name).is_none_or(|value| *value == ConstValue::Null),
            _ => false,
        }
    }

    /// Whether an object in the arguments has a field of that name. As deep as values may be nested.
    fn mention(&self, field: &Field, name: &str) -> bool {
        field.arguments.iter().any(|(_, value)| self.has(&value.node, name))
    }

    fn has(&self, value: &Value, name: &str) -> bool {
        match value {
            Value::Variable(variable) => self.variable(variable).is_some_and(|value| holds(value, name)),
            Value::List(values) => values.iter().any(|value| self.has(value, name)),
            Value::Object(fields) => fields.iter().any(|(key, value)| key.as_str() == name || self.has(value, name)),
            _ => false,
        }
    }
}

fn holds(value: &ConstValue, name: &str) -> bool {
    match value {
        ConstValue::List(values) => values.iter().any(|value| holds(value, name)),
        ConstValue::Object(fields) => fields.iter().any(|(key, value)| key.as_str() == name || holds(value, name)),
        _ => false,
    }
}
