//! What an operation may cost at most, in points.
//!
//! `cost(field) = weight + arguments + multiplier × cost(children) + cost(children that count once)`. Weights and the
//! arguments that multiply come from `@cost` in the schema; an argument costs what the input fields and enum values cost
//! that it names. Both members of an alternative (fragments on different types) count: the sum is an upper bound.

use std::collections::HashMap;

use async_graphql::{
    Name, Number, Positioned, Value, Variables,
    parser::types::{
        Directive, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet, VariableDefinition,
    },
};
use async_graphql_value::Value as Given;

use super::{
    Limits,
    refusal::Refusal,
    schema::{self, Schema},
    values::Values,
};

/// What one request asks for: a document whose [shape](super::shape) is within bounds, one of its operations, and values.
pub(super) struct Bill<'a> {
    pub(super) schema: &'a Schema,
    pub(super) limits: &'a Limits,
    pub(super) document: &'a ExecutableDocument,
    pub(super) operation: &'a OperationDefinition,
    pub(super) variables: &'a Variables,
    pub(super) values: &'a Values<'a>,
}

/// Cost of a selection set.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Of what there is in each item of the list that it may stand in.
    each: u64,
    /// Of what belongs to the list as a whole.
    once: u64,
}

impl Cost {
    const fn plus(self, other: Self) -> Self {
        Self { each: self.each.saturating_add(other.each), once: self.once.saturating_add(other.once) }
    }

    const fn times(self, items: u64) -> u64 {
        self.each.saturating_mul(items).saturating_add(self.once)
    }
}

type Fragments<'a> = HashMap<&'a str, Cost>;

impl Bill<'_> {
    /// Cost of the operation; `u64::MAX` stands for that and everything above. Refuses arguments of the wrong form.
    pub(super) fn total(&self) -> Result<u64, Refusal> {
        let mut fragments = HashMap::new();
        let root = self.schema.root(self.operation.ty);
        Ok(self.set(&self.operation.selection_set.node, root, &mut fragments)?.times(1))
    }

    fn set<'a>(
        &'a self,
        set: &'a SelectionSet,
        on: Option<&Name>,
        fragments: &mut Fragments<'a>,
    ) -> Result<Cost, Refusal> {
        set.items.iter().try_fold(Cost::default(), |sum, selection| {
            self.directives(selection.node.directives())?;
            let cost = match &selection.node {
                Selection::Field(field) => self.field(field, on, fragments)?,
                Selection::InlineFragment(inline) => {
                    let on = inline.node.type_condition.as_ref().map(|condition| &condition.node.on.node).or(on);
                    self.set(&inline.node.selection_set.node, on, fragments)?
                }
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node, fragments)?,
            };
            Ok(sum.plus(cost))
        })
    }

    fn directives(&self, given: &[Positioned<Directive>]) -> Result<(), Refusal> {
        given.iter().try_for_each(|directive| {
            let Some(known) = self.schema.directive(&directive.node.name.node) else { return Ok(()) };
            self.values.arguments(&known.arguments, &directive.node.arguments, directive.pos).map(drop)
        })
    }

    fn fragment<'a>(&'a self, name: &'a Name, fragments: &mut Fragments<'a>) -> Result<Cost, Refusal> {
        if let Some(known) = fragments.get(name.as_str()) {
            return Ok(*known);
        }
        let cost = match self.document.fragments.get(name) {
            None => Cost::default(),
            Some(fragment) => {
                let on = &fragment.node.type_condition.node.on.node;
                self.set(&fragment.node.selection_set.node, Some(on), fragments)?
            }
        };
        fragments.insert(name.as_str(), cost);
        Ok(cost)
    }

    fn field<'a>(
        &'a self,
        field: &'a Positioned<Field>,
        on: Option<&Name>,
        fragments: &mut Fragments<'a>,
    ) -> Result<Cost, Refusal> {
        let (at, field) = (field.pos, &field.node);
        let known = on.and_then(|on| self.schema.field(on, &field.name.node));
        let arguments = match known {
            Some(known) => self.values.arguments(&known.arguments, &field.arguments, at)?,
            None => 0,
        };
        let children = self.set(&field.selection_set.node, known.map(|known| &known.result), fragments)?;
        let Some(known) = known else {
            // Validation refuses unknown fields; those of introspection are cheap.
            return Ok(Cost { each: children.times(1).saturating_add(1), once: 0 });
        };
        let children = children.times(self.multiplier(known, field));
        let cost = known.weight.saturating_add(arguments).saturating_add(children);
        Ok(if known.once { Cost { each: 0, once: cost } } else { Cost { each: cost, once: 0 } })
    }

    /// The largest factor that the given arguments ask for; where none is given, the largest of their defaults.
    fn multiplier(&self, known: &schema::Field, field: &Field) -> u64 {
        let given = known.multipliers.iter().filter_map(|name| self.factor(&field.get_argument(name).as_ref()?.node));
        let default = |name: &Name| {
            let of_schema = known.arguments.get(name).and_then(|slot| self.factor(slot.default.as_ref()?));
            let page = matches!(name.as_str(), "first" | "last").then_some(self.limits.default_page_size);
            of_schema.or(page)
        };
        given.max().or_else(|| known.multipliers.iter().filter_map(default).max()).unwrap_or(1)
    }

    /// `None` for null, which is the same as not given.
    fn factor(&self, value: &Given) -> Option<u64> {
        match value {
            Given::Variable(name) => match self.variable(name)? {
                Value::Null => None,
                Value::Number(number) => Some(self.page(number)),
                Value::List(items) => Some(count(items.len())),
                _ => Some(1),
            },
            Given::Null => None,
            Given::Number(number) => Some(self.page(number)),
            Given::List(items) => Some(count(items.len())),
            _ => Some(1),
        }
    }

    fn variable(&self, name: &Name) -> Option<&Value> {
        let default = || {
            let mut definitions = self.operation.variable_definitions.iter();
            let definition: &Positioned<VariableDefinition> = definitions.find(|d| d.node.name.node == *name)?;
            definition.node.default_value.as_ref().map(|value| &value.node)
        };
        self.variables.get(name).or_else(default)
    }

    fn page(&self, number: &Number) -> u64 {
        whole(number).clamp(1, self.limits.max_page_size)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Numbers below zero count as zero, fractions and numbers too large as the largest: they are refused elsewhere.
fn whole(number: &Number) -> u64 {
    number.as_u64().unwrap_or(if number.as_i64().is_some() { 0 } else { u64::MAX })
}
