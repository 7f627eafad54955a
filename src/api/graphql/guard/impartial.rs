//! Which operations answer the same to everybody: those of nothing but fields that are listed as doing so.

use std::collections::HashSet;

use async_graphql::{
    Name,
    parser::types::{ExecutableDocument, OperationDefinition, Selection, SelectionSet},
};

use super::schema::{Field, Input, Schema, named};

/// Objects with fields, `Object.field` with arguments, and inputs with fields.
pub(crate) type Listed = [(&'static str, &'static [&'static str])];

/// The fields of a schema that answer the same to everybody.
#[derive(Debug, Default)]
pub(super) struct Impartial(HashSet<(Name, Name)>);

impl Impartial {
    /// Those of the schema that are listed, with everything that can be given to them.
    pub(super) fn read(schema: &Schema, listed: &Listed) -> Self {
        let mut fields = HashSet::new();
        for (of, name, field) in schema.fields() {
            if schema.objects_of(of).is_none() && has(listed, of, name) && is_closed(schema, listed, (of, name, field))
            {
                fields.insert((of.clone(), name.clone()));
            }
        }
        let holds = |of: &Name, name: &Name| fields.contains(&(of.clone(), name.clone()));
        let in_all = |of: &Name, name: &Name| {
            let objects = schema.objects_of(of).filter(|objects| !objects.is_empty());
            objects.is_some_and(|objects| objects.iter().all(|object| holds(object, name)))
        };
        let shared = schema.fields().filter(|(of, name, _)| in_all(of, name));
        let of_interfaces: Vec<_> = shared.map(|(of, name, _)| (of.clone(), name.clone())).collect();
        fields.extend(of_interfaces);
        Self(fields)
    }

    /// Whether an operation has no other fields. As deep as the [shape](super::shape) may be, which was measured before.
    pub(super) fn covers(
        &self,
        schema: &Schema,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
    ) -> bool {
        let Some(root) = schema.root(operation.ty) else { return false };
        let mut walk = Walk { impartial: self, schema, document, seen: HashSet::new() };
        walk.set(&operation.selection_set.node, root)
    }
}

/// Whether a field's arguments are listed, with whatever can stand in them: a condition may depend on the caller as well as
/// what is found by it.
fn is_closed(schema: &Schema, listed: &Listed, (of, name, field): (&Name, &Name, &Field)) -> bool {
    let place = format!("{of}.{name}");
    let mut arguments = field.arguments.iter();
    arguments.all(|(argument, slot)| {
        has(listed, &place, argument) && takes(schema, listed, named(&slot.ty), &mut HashSet::new())
    })
}

fn takes<'a>(schema: &'a Schema, listed: &Listed, input: &'a Name, seen: &mut HashSet<&'a Name>) -> bool {
    if !seen.insert(input) {
        return true;
    }
    match schema.input(input) {
        Some(Input::Scalar(_) | Input::Enum(_)) => true,
        Some(Input::Object { fields, .. }) => {
            fields.iter().all(|(name, slot)| has(listed, input, name) && takes(schema, listed, named(&slot.ty), seen))
        }
        None => false,
    }
}

fn has(listed: &Listed, of: &str, name: &str) -> bool {
    listed.iter().any(|(known, names)| *known == of && names.contains(&name))
}

struct Walk<'a> {
    impartial: &'a Impartial,
    schema: &'a Schema,
    document: &'a ExecutableDocument,
    /// Fragments that were looked into: each of them once.
    seen: HashSet<&'a Name>,
}

impl<'a> Walk<'a> {
    fn set(&mut self, set: &'a SelectionSet, on: &'a Name) -> bool {
        set.items.iter().all(|selection| match &selection.node {
            Selection::Field(field) => self.field(&field.node.name.node, &field.node.selection_set.node, on),
            Selection::InlineFragment(inline) => {
                let on = inline.node.type_condition.as_ref().map_or(on, |condition| &condition.node.on.node);
                self.set(&inline.node.selection_set.node, on)
            }
            Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node),
        })
    }

    fn field(&mut self, name: &'a Name, set: &'a SelectionSet, on: &'a Name) -> bool {
        // Which type something is of depends on what it is, and that is the same for everybody here.
        if name == "__typename" {
            return true;
        }
        let known = self.schema.field(on, name);
        let is_listed = self.impartial.0.contains(&(on.clone(), name.clone()));
        known.is_some_and(|known| is_listed && self.set(set, &known.result))
    }

    fn fragment(&mut self, name: &'a Name) -> bool {
        let Some(fragment) = self.document.fragments.get(name) else { return false };
        let on = &fragment.node.type_condition.node.on.node;
        !self.seen.insert(name) || self.set(&fragment.node.selection_set.node, on)
    }
}
