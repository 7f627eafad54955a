//! What an operation may cost at most, in points, computed from the schema's own text.
//!
//! `cost(field) = weight + multiplier × cost(children)`. Weight and the arguments that multiply come from `@cost` in the
//! SDL, so that what the schema shows is what is charged. Both members of an alternative (fragments on different types)
//! count: the sum is an upper bound.

use std::collections::HashMap;

use async_graphql::{
    Name, Number, Positioned, Value, Variables,
    parser::types::{
        BaseType, ConstDirective, ExecutableDocument, Field, FieldDefinition, OperationDefinition, OperationType,
        Selection, SelectionSet, ServiceDocument, Type, TypeKind, TypeSystemDefinition, VariableDefinition,
    },
};

use super::Limits;

/// Prices of all fields of a schema.
#[derive(Debug, Default)]
pub(super) struct Prices {
    types: HashMap<Name, HashMap<Name, Price>>,
    roots: [Option<Name>; 3],
}

#[derive(Debug)]
struct Price {
    weight: u64,
    multipliers: Vec<Multiplier>,
    result: Name,
}

/// An argument whose value multiplies the cost of the children.
#[derive(Debug)]
struct Multiplier {
    argument: Name,
    default: Option<Value>,
}

impl Prices {
    /// Reads the prices from a schema.
    pub(super) fn read(schema: &ServiceDocument) -> Self {
        let mut prices = Self {
            types: HashMap::new(),
            roots: ["Query", "Mutation", "Subscription"].map(|name| Some(Name::new(name))),
        };
        for definition in &schema.definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    let schema = &schema.node;
                    prices.roots = [&schema.query, &schema.mutation, &schema.subscription]
                        .map(|root| root.as_ref().map(|name| name.node.clone()));
                }
                TypeSystemDefinition::Type(ty) => {
                    let fields = match &ty.node.kind {
                        TypeKind::Object(object) => &object.fields,
                        TypeKind::Interface(interface) => &interface.fields,
                        _ => continue,
                    };
                    let of_type = prices.types.entry(ty.node.name.node.clone()).or_default();
                    of_type.extend(fields.iter().map(|field| (field.node.name.node.clone(), Price::read(&field.node))));
                }
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        prices
    }

    fn root(&self, operation: OperationType) -> Option<&Name> {
        let [query, mutation, subscription] = &self.roots;
        match operation {
            OperationType::Query => query.as_ref(),
            OperationType::Mutation => mutation.as_ref(),
            OperationType::Subscription => subscription.as_ref(),
        }
    }
}

impl Price {
    fn read(field: &FieldDefinition) -> Self {
        let cost = field.directives.iter().find(|directive| directive.node.name.node == "cost").map(|cost| &cost.node);
        let weight = match argument(cost, "weight") {
            Some(Value::Number(number)) => number.as_u64().unwrap_or(1),
            _ => 1,
        };
        let names = match argument(cost, "multipliers") {
            Some(Value::List(names)) => names.as_slice(),
            _ => &[],
        };
        let multiplier = |name: &Value| {
            let Value::String(name) = name else { return None };
            let definition = field.arguments.iter().find(|argument| argument.node.name.node == *name);
            let default = definition.and_then(|argument| argument.node.default_value.as_ref());
            Some(Multiplier { argument: Name::new(name), default: default.map(|value| value.node.clone()) })
        };
        Self {
            weight,
            multipliers: names.iter().filter_map(multiplier).collect(),
            result: named(&field.ty.node).clone(),
        }
    }
}

fn argument<'a>(directive: Option<&'a ConstDirective>, name: &str) -> Option<&'a Value> {
    directive.and_then(|directive| directive.get_argument(name)).map(|value| &value.node)
}

fn named(mut ty: &Type) -> &Name {
    loop {
        match &ty.base {
            BaseType::Named(name) => return name,
            BaseType::List(inner) => ty = inner,
        }
    }
}

/// What one request asks for: a document whose [shape](super::shape) is within bounds, one of its operations, and values.
pub(super) struct Bill<'a> {
    pub(super) prices: &'a Prices,
    pub(super) limits: &'a Limits,
    pub(super) document: &'a ExecutableDocument,
    pub(super) operation: &'a OperationDefinition,
    pub(super) variables: &'a Variables,
}

impl Bill<'_> {
    /// Cost of the operation; `u64::MAX` stands for that and everything above.
    pub(super) fn total(&self) -> u64 {
        let mut fragments = HashMap::new();
        self.set(&self.operation.selection_set.node, self.prices.root(self.operation.ty), &mut fragments)
    }

    fn set<'a>(&'a self, set: &'a SelectionSet, on: Option<&Name>, fragments: &mut HashMap<&'a str, u64>) -> u64 {
        set.items.iter().fold(0, |sum: u64, selection| {
            sum.saturating_add(match &selection.node {
                Selection::Field(field) => self.field(&field.node, on, fragments),
                Selection::InlineFragment(inline) => {
                    let on = inline.node.type_condition.as_ref().map(|condition| &condition.node.on.node).or(on);
                    self.set(&inline.node.selection_set.node, on, fragments)
                }
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node, fragments),
            })
        })
    }

    fn fragment<'a>(&'a self, name: &'a Name, fragments: &mut HashMap<&'a str, u64>) -> u64 {
        if let Some(known) = fragments.get(name.as_str()) {
            return *known;
        }
        let cost = self.document.fragments.get(name).map_or(0, |fragment| {
            let on = &fragment.node.type_condition.node.on.node;
            self.set(&fragment.node.selection_set.node, Some(on), fragments)
        });
        fragments.insert(name.as_str(), cost);
        cost
    }

    fn field<'a>(&'a self, field: &'a Field, on: Option<&Name>, fragments: &mut HashMap<&'a str, u64>) -> u64 {
        let price = on.and_then(|on| self.prices.types.get(on)).and_then(|fields| fields.get(&field.name.node));
        let children = self.set(&field.selection_set.node, price.map(|price| &price.result), fragments);
        match price {
            Some(price) => price.weight.saturating_add(self.multiplier(price, field).saturating_mul(children)),
            // Validation refuses unknown fields; those of introspection are cheap.
            None => children.saturating_add(1),
        }
    }

    /// The largest factor that the given arguments ask for; where none is given, the largest of their defaults.
    fn multiplier(&self, price: &Price, field: &Field) -> u64 {
        let given = price.multipliers.iter().filter_map(|multiplier| {
            let value = field.get_argument(&multiplier.argument)?;
            let value = value.node.clone().into_const_with(|name| Ok::<_, ()>(self.variable(&name)));
            self.factor(&value.ok()?)
        });
        let default = |multiplier: &Multiplier| {
            let of_schema = multiplier.default.as_ref().and_then(|value| self.factor(value));
            let page =
                matches!(multiplier.argument.as_str(), "first" | "last").then_some(self.limits.default_page_size);
            of_schema.or(page)
        };
        given.max().or_else(|| price.multipliers.iter().filter_map(default).max()).unwrap_or(1)
    }

    fn variable(&self, name: &Name) -> Value {
        let default = |name: &Name| {
            let mut definitions = self.operation.variable_definitions.iter();
            let definition: &Positioned<VariableDefinition> = definitions.find(|d| d.node.name.node == *name)?;
            definition.node.default_value.as_ref().map(|value| value.node.clone())
        };
        self.variables.get(name).cloned().or_else(|| default(name)).unwrap_or_default()
    }

    /// `None` for null, which is the same as not given.
    fn factor(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Null => None,
            Value::Number(number) => Some(whole(number).clamp(1, self.limits.max_page_size)),
            Value::List(items) => Some(u64::try_from(items.len()).unwrap_or(u64::MAX)),
            _ => Some(1),
        }
    }
}

/// Numbers below zero count as zero, fractions and numbers too large as the largest: the resolver refuses them.
fn whole(number: &Number) -> u64 {
    number.as_u64().unwrap_or(if number.as_i64().is_some() { 0 } else { u64::MAX })
}
