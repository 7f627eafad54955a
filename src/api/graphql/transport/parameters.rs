//! The parameters of a request: `query`, `operationName`, `variables`, `extensions`, of the right types or refused.

use async_graphql::{Extensions, Variables};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::api::graphql::guard::{Code, ECHO, Limits, Refusal, clip};

/// What a caller asks for, not yet checked against the schema.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) query: String,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Variables,
    pub(super) extensions: Extensions,
}

impl Parameters {
    /// From the JSON body of a POST.
    pub(super) fn from_body(body: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Self::from_object(fields, limits),
            Ok(Value::Array(_)) => Err(bad("batches of operations are not supported")),
            Ok(_) => Err(bad("the body must be a JSON object")),
            Err(error) => Err(bad(format!("the body is not JSON (line {}, column {})", error.line(), error.column()))),
        }
    }

    /// From the query string of a GET, where `variables` and `extensions` are JSON.
    pub(super) fn from_query(query: &str, limits: &Limits) -> Result<Self, Refusal> {
        let mut fields = Map::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = match &*name {
                "query" | "operationName" => Value::String(value.into_owned()),
                "variables" | "extensions" if value.is_empty() => Value::Null,
                "variables" | "extensions" => {
                    serde_json::from_str(&value).map_err(|_| bad(format!("{name} must be a JSON object")))?
                }
                _ => continue,
            };
            if fields.contains_key(&*name) {
                return Err(bad(format!("{name} is given twice")));
            }
            // `operationName=` is how forms send "none".
            let none = name == "operationName" && value == "";
            fields.insert(name.into_owned(), if none { Value::Null } else { value });
        }
        Self::from_object(fields, limits)
    }

    /// From a JSON object: a body, or the payload of `subscribe` on a socket.
    pub(super) fn from_object(mut fields: Map<String, Value>, limits: &Limits) -> Result<Self, Refusal> {
        let query = match fields.remove("query") {
            Some(Value::String(query)) if !query.is_empty() => query,
            Some(Value::String(_) | Value::Null) | None => return Err(bad("query is required")),
            Some(_) => return Err(bad("query must be a string")),
        };
        let operation_name = match fields.remove("operationName") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(bad("operationName must be a string")),
        };
        let variables = object(&mut fields, "variables")?;
        let extensions = object(&mut fields, "extensions")?;
        let mut values = 0;
        for value in variables.values().chain(extensions.values()) {
            bounded(value, limits.max_variable_nesting, &mut values, limits)?;
        }
        let extensions = extensions
            .into_iter()
            .filter_map(|(name, value)| async_graphql::Value::from_json(value).ok().map(|value| (name, value)));
        Ok(Self {
            query,
            operation_name,
            variables: Variables::from_json(Value::Object(variables)),
            extensions: Extensions(extensions.collect()),
        })
    }
}

fn object(fields: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, Refusal> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(bad(format!("{name} must be an object"))),
    }
}

/// Counts the values of a tree; recurses no deeper than `levels`.
fn bounded(value: &Value, levels: usize, values: &mut usize, limits: &Limits) -> Result<(), Refusal> {
    *values += 1;
    if *values > limits.max_variables {
        let message = format!("more than {} values in variables and extensions", limits.max_variables);
        return Err(Refusal::new(Code::TooLarge, message));
    }
    if !value.is_array() && !value.is_object() {
        return Ok(());
    }
    let Some(levels) = levels.checked_sub(1) else {
        let message = format!("variables nested deeper than {}", limits.max_variable_nesting);
        return Err(Refusal::new(Code::TooDeep, message));
    };
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| bounded(item, levels, values, limits)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
            if name.len() > ECHO {
                return Err(bad(format!("field name {} in the variables is too long", clip(name, ECHO))));
            }
            bounded(field, levels, values, limits)
        }),
        _ => Ok(()),
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadInput, message)
}
