//! Whole sets of rows in one statement, whose text does not depend on how many there are: the database reads and plans it
//! once.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, Timelike, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, IdenStatic as _,
    Iterable as _, TryGetableMany, Value,
    sea_query::{
        ColumnType, Expr, ExprTrait, InsertStatement, OnConflict, Query, ReturningClause, SelectStatement, ValueType,
        extension::postgres::PgFunc,
    },
};

use crate::error::{Error, Result};

/// Inserts rows; `on_conflict` says what becomes of those whose key is taken. All rows set the same columns. Returns how
/// many rows were written.
pub async fn insert<A>(tx: &impl ConnectionTrait, rows: Vec<A>, on_conflict: Option<OnConflict>) -> Result<u64>
where
    A: ActiveModelTrait,
{
    let mut written = 0;
    for statement in statements(tx.get_database_backend(), &rows, on_conflict.as_ref())? {
        written += tx.execute(&statement).await?.rows_affected();
    }
    Ok(written)
}

/// Like [`insert`]; returns these columns of every row that was written, in no promised order.
pub async fn insert_returning<A, T>(
    tx: &impl ConnectionTrait,
    rows: Vec<A>,
    on_conflict: Option<OnConflict>,
    columns: &[<A::Entity as EntityTrait>::Column],
) -> Result<Vec<T>>
where
    A: ActiveModelTrait,
    T: TryGetableMany,
{
    let names: Vec<String> = columns.iter().map(|column| column.as_str().to_owned()).collect();
    let mut written = Vec::new();
    for mut statement in statements(tx.get_database_backend(), &rows, on_conflict.as_ref())? {
        statement.returning(ReturningClause::Columns(names.iter().map(|name| name.clone().into()).collect()));
        for row in tx.query_all(&statement).await? {
            written.push(row.try_get_many("", &names)?);
        }
    }
    Ok(written)
}

/// One statement on PostgreSQL; on SQLite, which has no arrays, one for each [piece](pieces).
fn statements<A>(backend: DbBackend, rows: &[A], on_conflict: Option<&OnConflict>) -> Result<Vec<InsertStatement>>
where
    A: ActiveModelTrait,
{
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns = <A::Entity as EntityTrait>::Column::iter();
    let columns: Vec<_> = columns.filter(|column| !first.is_not_set(*column)).collect();
    let into = || {
        let mut insert = Query::insert();
        insert.into_table(A::Entity::default().table_ref()).columns(columns.iter().copied());
        if let Some(on_conflict) = on_conflict {
            insert.on_conflict(on_conflict.clone());
        }
        insert
    };
    if backend == DbBackend::Postgres {
        let mut source = SelectStatement::new();
        for column in &columns {
            source.expr(array(*column, rows)?);
        }
        let mut insert = into();
        insert.select_from(source).map_err(Error::bug)?;
        return Ok(vec![insert]);
    }
    pieces(rows)
        .map(|piece| {
            let mut insert = into();
            for row in piece {
                let values = columns.iter().map(|column| Ok(Expr::value(value_of(row, *column)?)));
                insert.values(values.collect::<Result<Vec<_>>>()?).map_err(Error::bug)?;
            }
            Ok(insert)
        })
        .collect()
}

fn value_of<A: ActiveModelTrait>(row: &A, column: <A::Entity as EntityTrait>::Column) -> Result<Value> {
    match row.get(column) {
        ActiveValue::Set(value) | ActiveValue::Unchanged(value) => Ok(value),
        ActiveValue::NotSet => Err(Error::bug(anyhow::anyhow!("rows of one insert set different columns"))),
    }
}

/// The values of one column as rows of a SELECT. They travel as the text of an array, because a bound array could not hold
/// NULL.
fn array<A: ActiveModelTrait>(column: <A::Entity as EntityTrait>::Column, rows: &[A]) -> Result<Expr> {
    let kind = match column.def().get_column_type() {
        ColumnType::Integer => "integer",
        ColumnType::BigInteger => "bigint",
        ColumnType::Double => "float8",
        ColumnType::Boolean => "boolean",
        ColumnType::TimestampWithTimeZone => "timestamptz",
        ColumnType::Json | ColumnType::JsonBinary => "jsonb",
        ColumnType::Text | ColumnType::String(_) => "text",
        other => return Err(Error::bug(anyhow::anyhow!("no array of {other:?}"))),
    };
    let mut text = String::from("{");
    for row in rows {
        if text.len() > 1 {
            text.push(',');
        }
        push_element(&mut text, &value_of(row, column)?)?;
    }
    text.push('}');
    Ok(Expr::cust_with_values(format!("unnest($1::text::{kind}[])"), [text]))
}

/// Appends a value as PostgreSQL reads it inside an array.
fn push_element(text: &mut String, value: &Value) -> Result<()> {
    let written = match value {
        Value::String(Some(value)) => {
            push_quoted(text, value);
            Ok(())
        }
        Value::Json(Some(value)) => {
            push_quoted(text, &value.to_string());
            Ok(())
        }
        Value::Bool(Some(value)) => write!(text, "{value}"),
        Value::Int(Some(value)) => write!(text, "{value}"),
        Value::BigInt(Some(value)) => write!(text, "{value}"),
        Value::Double(Some(value)) => write!(text, "{value}"),
        Value::ChronoDateTimeUtc(Some(value)) => push_instant(text, value),
        Value::String(None)
        | Value::Json(None)
        | Value::Bool(None)
        | Value::Int(None)
        | Value::BigInt(None)
        | Value::Double(None)
        | Value::ChronoDateTimeUtc(None) => {
            text.push_str("NULL");
            Ok(())
        }
        other => return Err(Error::bug(anyhow::anyhow!("{other:?} is no element of an array"))),
    };
    written.map_err(Error::bug)
}

fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    for part in value.split_inclusive(['"', '\\']) {
        match part.strip_suffix(['"', '\\']) {
            Some(before) => {
                text.push_str(before);
                text.push('\\');
                text.push_str(&part[before.len()..]);
            }
            None => text.push_str(part),
        }
    }
    text.push('"');
}

/// To the microsecond, which is what PostgreSQL keeps. It has no year 0 and counts backwards from 1 BC.
fn push_instant(text: &mut String, value: &DateTime<Utc>) -> std::fmt::Result {
    let (year, era) = if value.year() > 0 { (value.year(), "") } else { (1 - value.year(), " BC") };
    let micros = Ord::min(value.nanosecond() / 1_000, 999_999);
    let (month, day) = (value.month(), value.day());
    let (hour, minute, second) = (value.hour(), value.minute(), value.second());
    write!(text, "\"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00{era}\"")
}

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
