//! Sets of values in statements whose text does not depend on how many there are: the database reads and plans them once.

use sea_orm::{
    ColumnTrait, DbBackend, Value,
    sea_query::{Expr, ExprTrait, ValueType, extension::postgres::PgFunc},
};

/// `column` is one of `values`, as one bound parameter: the statement's text, and with it its plan, stays the same for any
/// number of values.
pub fn among<T: Into<Value> + serde::Serialize + ValueType>(
    backend: DbBackend,
    column: impl ColumnTrait,
    values: Vec<T>,
) -> Expr
where
    Vec<T>: Into<Value>,
{
    let column = column.into_expr();
    if backend == DbBackend::Postgres {
        return column.eq(PgFunc::any(values));
    }
    let list = serde_json::to_string(&values).unwrap_or_default();
    Expr::cust_with_exprs("? IN (SELECT value FROM json_each(?))", [column, Expr::value(list)])
}

/// Rows in pieces of which each makes one INSERT. Their lengths are powers of two: so there are only a few statements,
/// which the database reads and plans once, and not one for each number of rows that a batch may have.
pub fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    /// SQLite takes 32,766 values in one statement; the widest table has some forty columns.
    const LONGEST: usize = 512;
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = LONGEST.min(1 << rest.len().checked_ilog2()?);
        let (piece, later) = rest.split_at(length);
        rest = later;
        Some(piece)
    })
}

/// Pairs as a table `wanted (one, other)` of a statement whose first parameters they are. To be joined by CROSS JOIN and
/// WHERE, which to SQLite means: go through the pairs and look each one up.
pub fn bind_pairs<T: serde::Serialize + ValueType>(
    backend: DbBackend,
    one: Vec<T>,
    other: Vec<T>,
) -> (&'static str, Vec<Value>)
where
    Vec<T>: Into<Value>,
{
    if backend == DbBackend::Postgres {
        // Their types come from what they are bound as.
        return ("unnest($1, $2) AS wanted (one, other)", vec![one.into(), other.into()]);
    }
    let pairs: Vec<(T, T)> = one.into_iter().zip(other).collect();
    let list = serde_json::to_string(&pairs).unwrap_or_default();
    ("(SELECT value ->> 0 AS one, value ->> 1 AS other FROM json_each($1)) AS wanted", vec![list.into()])
}

/// A list of numbers as the first parameter of a statement: the comparison that goes behind the column, and its value.
pub fn bind_list(backend: DbBackend, values: &[i64]) -> (&'static str, Value) {
    if backend == DbBackend::Postgres {
        ("= ANY($1)", values.to_vec().into())
    } else {
        ("IN (SELECT value FROM json_each($1))", serde_json::to_string(values).unwrap_or_default().into())
    }
}
