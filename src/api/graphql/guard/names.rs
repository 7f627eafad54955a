//! Names in a document that its validation by the library lets through: directives that the schema doesn't know or that
//! don't belong where they stand, and arguments of `__typename`.

use async_graphql::{
    Positioned,
    parser::types::{Directive, DirectiveLocation, ExecutableDocument, OperationType, Selection, SelectionSet},
};

use super::{
    refusal::{Code, Refusal},
    schema::Schema,
};

/// Checks a document whose [shape](super::shape) was measured, which bounds the recursion here.
pub(super) fn check(document: &ExecutableDocument, schema: &Schema) -> Result<(), Refusal> {
    let check = Check { schema };
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        let location = match operation.ty {
            OperationType::Query => DirectiveLocation::Query,
            OperationType::Mutation => DirectiveLocation::Mutation,
            OperationType::Subscription => DirectiveLocation::Subscription,
        };
        check.directives(&operation.directives, location)?;
        for variable in &operation.variable_definitions {
            check.directives(&variable.node.directives, DirectiveLocation::VariableDefinition)?;
        }
        check.set(&operation.selection_set.node)?;
    }
    for fragment in document.fragments.values() {
        check.directives(&fragment.node.directives, DirectiveLocation::FragmentDefinition)?;
        check.set(&fragment.node.selection_set.node)?;
    }
    Ok(())
}

struct Check<'a> {
    schema: &'a Schema,
}

impl Check<'_> {
    fn directives(&self, given: &[Positioned<Directive>], location: DirectiveLocation) -> Result<(), Refusal> {
        for directive in given {
            let name = &directive.node.name.node;
            let message = match self.schema.directive(name) {
                None => format!("there is no directive @{name}"),
                Some(known) if !known.locations.contains(&location) => format!("directive @{name} doesn't belong here"),
                Some(known) => {
                    let mut arguments = directive.node.arguments.iter();
                    match arguments.find(|(argument, _)| known.arguments.get(&argument.node).is_none()) {
                        None => continue,
                        Some((argument, _)) => format!("directive @{name} has no argument {}", argument.node),
                    }
                }
            };
            return Err(Refusal::new(Code::ValidationFailed, message).at(directive.pos));
        }
        Ok(())
    }

    fn set(&self, set: &SelectionSet) -> Result<(), Refusal> {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    if field.node.name.node == "__typename" && !field.node.arguments.is_empty() {
                        let message = "__typename has no arguments";
                        return Err(Refusal::new(Code::ValidationFailed, message).at(field.pos));
                    }
                    self.directives(&field.node.directives, DirectiveLocation::Field)?;
                    self.set(&field.node.selection_set.node)?;
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&spread.node.directives, DirectiveLocation::FragmentSpread)?;
                }
                Selection::InlineFragment(inline) => {
                    self.directives(&inline.node.directives, DirectiveLocation::InlineFragment)?;
                    self.set(&inline.node.selection_set.node)?;
                }
            }
        }
        Ok(())
    }
}
