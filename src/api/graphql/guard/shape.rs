//! How large a document is when its fragments are written out, without writing them out.
//!
//! Every fragment is measured once; sums saturate. What a document of n characters can stand for is exponential in n,
//! and the library walks all of it, so everything that the library will walk is bounded here.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned,
    parser::types::{ExecutableDocument, FragmentDefinition, OperationDefinition, Selection, SelectionSet},
};

use super::{
    Limits,
    refusal::{Code, Refusal},
};

/// Size of a selection set with its fragments written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Fields below each other.
    pub(super) depth: u64,
    /// Selection sets inside each other; spreads and inline fragments count too.
    pub(super) height: u64,
    /// Fields, spreads and inline fragments.
    pub(super) selections: u64,
    /// Fields with an alias.
    pub(super) aliases: u64,
    /// Directives.
    pub(super) directives: u64,
    /// Fields of the outermost level.
    pub(super) width: u64,
}

impl Shape {
    fn add(&mut self, inner: &Self) {
        self.selections = self.selections.saturating_add(inner.selections).saturating_add(1);
        self.aliases = self.aliases.saturating_add(inner.aliases);
        self.directives = self.directives.saturating_add(inner.directives);
        self.height = self.height.max(inner.height.saturating_add(1));
    }
}

/// Shape of each operation, by name.
pub(super) type Shapes = Vec<(Option<Name>, Shape)>;

/// Measures all operations, and refuses cycles and documents whose written-out size, unused parts included, is too large.
pub(super) fn measure(document: &ExecutableDocument, limits: &Limits) -> Result<Shapes, Refusal> {
    let mut survey = Survey { fragments: &document.fragments, known: HashMap::new(), limits };
    let mut shapes = Shapes::new();
    let mut total = Shape::default();
    for (name, operation) in document.operations.iter() {
        let shape = survey.operation(&operation.node)?;
        total.add(&shape);
        shapes.push((name.cloned(), shape));
    }
    for name in document.fragments.keys() {
        if let Some(shape) = survey.fragment(name, 1)? {
            total.add(&shape);
        }
    }
    if total.selections > limits.max_selections {
        return Err(Refusal::new(
            Code::TooComplex,
            format!("more than {} selections with all fragments written out", limits.max_selections),
        ));
    }
    Ok(shapes)
}

struct Survey<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// Measured fragments; `None` while a fragment is being measured, so that meeting it again is a cycle.
    known: HashMap<&'a str, Option<Shape>>,
    limits: &'a Limits,
}

impl<'a> Survey<'a> {
    fn operation(&mut self, operation: &'a OperationDefinition) -> Result<Shape, Refusal> {
        let mut shape = self.set(&operation.selection_set.node, 1)?;
        let own = operation.variable_definitions.iter().map(|variable| variable.node.directives.len());
        shape.directives = shape.directives.saturating_add(count(own.sum::<usize>() + operation.directives.len()));
        self.within_height(shape.height)?;
        Ok(shape)
    }

    /// `None` for a fragment that does not exist: validation names it.
    fn fragment(&mut self, name: &Name, level: u64) -> Result<Option<Shape>, Refusal> {
        let Some((name, fragment)) = self.fragments.get_key_value(name) else { return Ok(None) };
        match self.known.get(name.as_str()) {
            Some(Some(shape)) => return Ok(Some(*shape)),
            Some(None) => {
                let message = format!("fragment {name} spreads itself");
                return Err(Refusal::new(Code::ValidationFailed, message).at(fragment.pos));
            }
            None => {}
        }
        self.known.insert(name.as_str(), None);
        let mut shape = self.set(&fragment.node.selection_set.node, level)?;
        shape.directives = shape.directives.saturating_add(count(fragment.node.directives.len()));
        self.known.insert(name.as_str(), Some(shape));
        Ok(Some(shape))
    }

    /// The level bounds the recursion of this walk; the height, which is exact, bounds that of the walks to come.
    fn set(&mut self, set: &'a SelectionSet, level: u64) -> Result<Shape, Refusal> {
        self.within_height(level)?;
        let mut shape = Shape { height: 1, ..Shape::default() };
        for selection in &set.items {
            shape.directives = shape.directives.saturating_add(count(selection.node.directives().len()));
            match &selection.node {
                Selection::Field(field) => {
                    let inner = &field.node.selection_set.node;
                    let inner = if inner.items.is_empty() { Shape::default() } else { self.set(inner, level + 1)? };
                    shape.add(&inner);
                    shape.depth = shape.depth.max(inner.depth.saturating_add(1));
                    shape.width = shape.width.saturating_add(1);
                    shape.aliases = shape.aliases.saturating_add(u64::from(field.node.alias.is_some()));
                }
                Selection::InlineFragment(inline) => {
                    let inner = self.set(&inline.node.selection_set.node, level + 1)?;
                    shape.add(&inner);
                    shape.depth = shape.depth.max(inner.depth);
                    shape.width = shape.width.saturating_add(inner.width);
                }
                Selection::FragmentSpread(spread) => {
                    let inner = self.fragment(&spread.node.fragment_name.node, level + 1)?.unwrap_or_default();
                    shape.add(&inner);
                    shape.depth = shape.depth.max(inner.depth);
                    shape.width = shape.width.saturating_add(inner.width);
                }
            }
        }
        Ok(shape)
    }

    fn within_height(&self, height: u64) -> Result<(), Refusal> {
        if height <= self.limits.max_levels {
            return Ok(());
        }
        Err(Refusal::new(Code::TooDeep, format!("selections nested deeper than {} levels", self.limits.max_levels)))
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
