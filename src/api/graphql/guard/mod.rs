//! Bounds on documents, checked before the library walks them.
//!
//! In this order: the text (tokens, brackets), the parsed document with its fragments written out (depth, selections,
//! aliases, directives, root fields), the one operation that will run (values, cost). Nothing here recurses deeper
//! than the limits, whatever the input. What it does not do: the rest of validation, which the library does.
//!
//! As it knows the schema, it also tells which operations [answer the same to everybody](Guard::is_impartial).

mod cache;
mod cost;
mod impartial;
mod lexer;
mod names;
mod refusal;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use async_graphql::{
    Name, Value, Variables,
    parser::{
        Error as ParserError, parse_query,
        types::{ExecutableDocument, OperationDefinition, OperationType},
    },
};

use self::{cost::Bill, impartial::Impartial, schema::Schema, shape::Shape, values::Values};
pub(crate) use self::{
    impartial::Listed,
    refusal::{Code, ECHO, Refusal, clip},
    schema::Accepts,
};
use crate::error::Result;

/// An event of a subscription may cost this part of what a query may: it is asked for once and comes again and again.
const EVENT_SHARE: u64 = 10;

/// What a document may ask for. Every bound is inclusive.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Fields below each other. The introspection query of current tools needs 15.
    pub(crate) max_depth: u64,
    /// Selection sets inside each other, fragments included; the library's own limit must not be lower.
    pub(crate) max_levels: u64,
    /// Points that one operation may cost; a tenth of it for each event of a subscription.
    pub(crate) max_cost: u64,
    /// Fields with an alias in one operation, fragments written out.
    pub(crate) max_aliases: u64,
    /// Fields of the outermost level of one operation, fragments written out.
    pub(crate) max_root_fields: u64,
    /// Fields, spreads and inline fragments of the whole document, fragments written out.
    pub(crate) max_selections: u64,
    /// Directives in one operation, fragments written out.
    pub(crate) max_directives: u64,
    /// Tokens of the text.
    pub(crate) max_tokens: usize,
    /// Brackets of any kind inside each other, in the text.
    pub(crate) max_nesting: usize,
    /// Largest page; what a multiplying argument counts at most.
    pub(crate) max_page_size: u64,
    /// Page that is charged where none is asked for and the schema names no default.
    pub(crate) default_page_size: u64,
    /// Bytes of a request body, of a message on a socket, and of a query string.
    pub(crate) max_body_bytes: usize,
    /// Values in the variables of a request, at all levels together.
    pub(crate) max_variables: usize,
    /// Lists and objects inside each other in the variables.
    pub(crate) max_variable_nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 15,
            max_levels: 32,
            max_cost: 10_000,
            max_aliases: 50,
            max_root_fields: 20,
            max_selections: 10_000,
            max_directives: 50,
            max_tokens: 5_000,
            max_nesting: 100,
            max_page_size: 100,
            default_page_size: 20,
            max_body_bytes: 262_144,
            max_variables: 10_000,
            max_variable_nesting: 64,
        }
    }
}

/// Checks documents against [`Limits`], and against the prices and inputs of one schema.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    schema: Schema,
    impartial: Impartial,
    cache: cache::Cache,
}

/// A parsed document and what does not depend on variables.
#[derive(Debug)]
struct Parsed {
    document: Arc<ExecutableDocument>,
    operations: shape::Shapes,
}

/// A document that may run.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// The parsed document.
    pub(crate) document: Arc<ExecutableDocument>,
    /// Points that the operation costs.
    pub(crate) cost: u64,
    /// Fields below each other.
    pub(crate) depth: u64,
    /// Kind of the operation.
    pub(crate) operation_type: OperationType,
    /// Name of the operation, where it has one.
    pub(crate) operation_name: Option<String>,
}

impl Guard {
    /// A guard for the schema of this SDL; `scalars` says what those that the schema declares accept. Fails if the SDL
    /// cannot be parsed.
    pub(crate) fn new(sdl: &str, scalars: &[(&str, Accepts)], limits: Limits) -> Result<Self> {
        let schema = Schema::read(sdl, scalars)?;
        Ok(Self { limits, schema, impartial: Impartial::default(), cache: cache::Cache::default() })
    }

    /// The same, which knows what of the schema answers the same to everybody.
    pub(crate) fn with_impartial(self, listed: &Listed) -> Self {
        Self { impartial: Impartial::read(&self.schema, listed), ..self }
    }

    /// Whether the operation of that name in a document that was [checked](Self::check) answers the same to everybody.
    pub(crate) fn is_impartial(&self, document: &ExecutableDocument, name: Option<&str>) -> bool {
        let mut operations = document.operations.iter();
        let found = operations.find(|(known, _)| known.map(Name::as_str) == name);
        found.is_some_and(|(_, operation)| self.impartial.covers(&self.schema, document, &operation.node))
    }

    /// The limits in force.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks the operation of that name, or the only one, with these variables.
    pub(crate) fn check(&self, text: &str, name: Option<&str>, variables: &Variables) -> Result<Checked, Refusal> {
        let parsed = self.parse(text)?;
        let (name, operation, shape) = parsed.operation(name)?;
        self.within(shape)?;
        if operation.ty == OperationType::Subscription && shape.width > 1 {
            return Err(Refusal::new(Code::ValidationFailed, "a subscription has one root field"));
        }
        if variables.values().any(holds_nul) {
            return Err(Refusal::new(Code::BadInput, "NUL in a variable"));
        }
        let document = &*parsed.document;
        let values = &Values::read(&self.schema, operation, variables)?;
        let bill = Bill { schema: &self.schema, limits: &self.limits, document, operation, variables, values };
        let cost = bill.total()?;
        let (what, allowed) = match operation.ty {
            OperationType::Subscription => ("each event", self.limits.max_cost.div_ceil(EVENT_SHARE)),
            OperationType::Query | OperationType::Mutation => ("the operation", self.limits.max_cost),
        };
        if cost > allowed {
            let message = format!("{what} costs {cost} points, at most {allowed} are allowed");
            return Err(Refusal::new(Code::TooComplex, message));
        }
        Ok(Checked {
            document: Arc::clone(&parsed.document),
            cost,
            depth: shape.depth,
            operation_type: operation.ty,
            operation_name: name.map(ToString::to_string),
        })
    }

    fn parse(&self, text: &str) -> Result<Arc<Parsed>, Refusal> {
        let key = cache::key(text);
        if let Some(parsed) = self.cache.get(&key) {
            return Ok(parsed);
        }
        let document = parse_query(lexer::scan(text, &self.limits)?).map_err(|error| {
            // The parser's report quotes the line it stopped in, whatever its length; its last line says what it expected.
            let report = error.to_string();
            let reason = report.lines().last().unwrap_or_default().trim().trim_start_matches("= ");
            let code = if error == ParserError::RecursionLimitExceeded { Code::TooDeep } else { Code::ParseFailed };
            let refusal = Refusal::new(code, clip(reason, 2 * ECHO));
            error.positions().next().map_or(refusal.clone(), |place| refusal.at(place))
        })?;
        let operations = shape::measure(&document, &self.limits)?;
        names::check(&document, &self.schema)?;
        let parsed = Arc::new(Parsed { document: Arc::new(document), operations });
        self.cache.put(key, text.len(), &parsed);
        Ok(parsed)
    }

    fn within(&self, shape: &Shape) -> Result<(), Refusal> {
        let limits = &self.limits;
        let bounds = [
            (Code::TooDeep, shape.depth, limits.max_depth, "fields nested"),
            (Code::TooComplex, shape.aliases, limits.max_aliases, "aliases"),
            (Code::TooComplex, shape.width, limits.max_root_fields, "root fields"),
            (Code::TooComplex, shape.directives, limits.max_directives, "directives"),
        ];
        match bounds.into_iter().find(|(_, found, allowed, _)| found > allowed) {
            None => Ok(()),
            Some((code, found, allowed, what)) => {
                Err(Refusal::new(code, format!("{found} {what}, at most {allowed} are allowed")))
            }
        }
    }
}

impl Parsed {
    fn operation(&self, wanted: Option<&str>) -> Result<(Option<&Name>, &OperationDefinition, &Shape), Refusal> {
        let mut operations = self.document.operations.iter();
        let found = match wanted {
            Some(wanted) => operations.find(|(name, _)| name.is_some_and(|name| name == wanted)),
            None if operations.len() == 1 => operations.next(),
            None => {
                let message = "the document has several operations: operationName is required";
                return Err(Refusal::new(Code::OperationNotFound, message));
            }
        };
        let shape = |name: Option<&Name>| self.operations.iter().find(|(n, _)| n.as_ref() == name);
        found.and_then(|(name, operation)| Some((name, &operation.node, &shape(name)?.1))).ok_or_else(|| {
            let message = format!("no operation is named {}", clip(wanted.unwrap_or_default(), ECHO));
            Refusal::new(Code::OperationNotFound, message)
        })
    }
}

/// PostgreSQL cannot hold it, and no text means it. As deep as the variables, whose nesting is bounded where they are read.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::List(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields.values().any(holds_nul),
        _ => false,
    }
}
