//! The schema as its text has it, for tests that make documents of all of it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use async_graphql::parser::{
    parse_schema,
    types::{BaseType, FieldDefinition, Type, TypeKind, TypeSystemDefinition},
};
use gateway::api::graphql::sdl;

/// Every type by its name.
pub(crate) struct Blueprint(BTreeMap<String, TypeKind>);

impl Blueprint {
    pub(crate) fn read() -> Self {
        let definitions = parse_schema(sdl()).unwrap().definitions.into_iter();
        let kinds = definitions.filter_map(|definition| match definition {
            TypeSystemDefinition::Type(definition) => {
                Some((definition.node.name.node.to_string(), definition.node.kind))
            }
            _ => None,
        });
        Self(kinds.collect())
    }

    /// Fields of an object; none of anything else.
    pub(crate) fn fields(&self, object: &str) -> Vec<&FieldDefinition> {
        match self.0.get(object) {
            Some(TypeKind::Object(object)) => object.fields.iter().map(|field| &field.node).collect(),
            _ => Vec::new(),
        }
    }

    /// A field by the names of its object and its own: `Object.field`.
    pub(crate) fn field(&self, path: &str) -> Option<&FieldDefinition> {
        let (object, name) = path.split_once('.')?;
        self.fields(object).into_iter().find(|field| field.name.node == name)
    }

    /// Names of the fields of an input.
    pub(crate) fn inputs(&self, input: &str) -> Vec<&str> {
        match self.0.get(input) {
            Some(TypeKind::InputObject(input)) => input.fields.iter().map(|f| f.node.name.node.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The objects that something of a type can be: itself, or those of an interface or a union. None of what has no fields.
    pub(crate) fn objects(&self, name: &str) -> Vec<&str> {
        let implements = |kind: &TypeKind| match kind {
            TypeKind::Object(object) => object.implements.iter().any(|interface| interface.node == name),
            _ => false,
        };
        match self.0.get_key_value(name) {
            Some((object, TypeKind::Object(_))) => vec![object],
            Some((_, TypeKind::Union(union))) => union.members.iter().map(|member| member.node.as_str()).collect(),
            Some((_, TypeKind::Interface(_))) => {
                self.0.iter().filter(|(_, kind)| implements(kind)).map(|(object, _)| object.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The type that lists are made of.
pub(crate) fn innermost(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => innermost(inner),
    }
}
