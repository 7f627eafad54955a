//! Whole sets of rows in one statement. On PostgreSQL each column is one array, so that the statement's text does not depend
//! on how many rows there are: the database reads and plans it once.

use chrono::DateTime;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, IdenStatic as _,
    Iterable as _, Statement, TryGetableMany, Value,
    sea_query::{
        ArrayType, ColumnType, Expr, InsertStatement, OnConflict, Query, ReturningClause, SelectStatement, Values,
    },
};

use super::pieces;
use crate::error::{Error, Result};

/// Inserts rows; `on_conflict` says what becomes of those whose key is taken. All rows set the same columns.
pub async fn insert<A>(tx: &impl ConnectionTrait, rows: Vec<A>, on_conflict: Option<OnConflict>) -> Result<()>
where
    A: ActiveModelTrait,
{
    for statement in statements(tx.get_database_backend(), rows, on_conflict, &[])? {
        tx.execute_raw(statement).await?;
    }
    Ok(())
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
    for statement in statements(tx.get_database_backend(), rows, on_conflict, &names)? {
        for row in tx.query_all_raw(statement).await? {
            written.push(row.try_get_many("", &names)?);
        }
    }
    Ok(written)
}

/// Writes rows over those that are there and have the same `keys`, which are unique; of them `columns` change. All rows set the
/// same columns.
///
/// Errors: a row that is not there is a mistake of the caller's, which PostgreSQL tells. SQLite inserts it.
pub async fn replace<A, C>(tx: &impl ConnectionTrait, mut rows: Vec<A>, keys: &[C], columns: &[C]) -> Result<()>
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<Column = C>,
    C: ColumnTrait,
{
    if tx.get_database_backend() != DbBackend::Postgres {
        let on_conflict = OnConflict::columns(keys.iter().copied()).update_columns(columns.iter().copied()).to_owned();
        return insert(tx, rows, Some(on_conflict)).await;
    }
    if rows.is_empty() {
        return Ok(());
    }
    // What conflicts is locked before it is written, has drawn a number in vain, and was inserted to the triggers.
    let read: Vec<C> = keys.iter().chain(columns).copied().collect();
    let (source, bound) = unnested(&read, &mut rows)?;
    let source = DbBackend::Postgres.build(&source);
    let table = A::Entity::default();
    let table = table.table_name();
    let each = |columns: &[C], between: &str, write: &dyn Fn(&str) -> String| {
        columns.iter().map(|column| write(column.as_str())).collect::<Vec<_>>().join(between)
    };
    let set = each(columns, ", ", &|name| format!(r#""{name}" = n."{name}""#));
    let found = each(keys, " AND ", &|name| format!(r#""{table}"."{name}" = n."{name}""#));
    let sql = format!(r#"UPDATE "{table}" SET {set} FROM ({}) AS n WHERE {found}"#, source.sql);
    let written = tx.execute_raw(bind(Statement { sql, ..source }, bound)).await?.rows_affected();
    if written != rows.len() as u64 {
        return Err(Error::bug(anyhow::anyhow!("of {} rows of {table} only {written} are there", rows.len())));
    }
    Ok(())
}

/// One statement on PostgreSQL; on SQLite, which has no arrays, one for each [piece](pieces).
fn statements<A>(
    backend: DbBackend,
    rows: Vec<A>,
    on_conflict: Option<OnConflict>,
    returning: &[String],
) -> Result<Vec<Statement>>
where
    A: ActiveModelTrait,
{
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns = <A::Entity as EntityTrait>::Column::iter();
    let columns: Vec<_> = columns.filter(|column| !first.is_not_set(*column)).collect();
    let mut insert = Query::insert();
    insert.into_table(A::Entity::default().table_ref()).columns(columns.iter().copied());
    if let Some(on_conflict) = on_conflict {
        insert.on_conflict(on_conflict);
    }
    if !returning.is_empty() {
        insert.returning(ReturningClause::Columns(returning.iter().map(|name| name.clone().into()).collect()));
    }
    if backend == DbBackend::Postgres {
        return Ok(vec![from_arrays(insert, &columns, rows)?]);
    }
    let lengths: Vec<usize> = pieces(&rows).map(<[A]>::len).collect();
    let mut rows = rows.into_iter();
    lengths.into_iter().map(|length| from_rows(insert.clone(), &columns, rows.by_ref().take(length))).collect()
}

/// The statement is built around nothing, since it would copy every value, and the values are put in afterwards.
fn from_rows<A, C>(mut insert: InsertStatement, columns: &[C], rows: impl Iterator<Item = A>) -> Result<Statement>
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<Column = C>,
    C: ColumnTrait,
{
    let mut bound = Vec::new();
    for mut row in rows {
        let values = columns.iter().map(|column| take(&mut row, *column)).collect::<Result<Vec<_>>>()?;
        insert.values(values.iter().map(|value| Expr::value(value.as_null()))).map_err(Error::bug)?;
        bound.extend(values);
    }
    Ok(bind(DbBackend::Sqlite.build(&insert), bound))
}

fn from_arrays<A, C>(mut insert: InsertStatement, columns: &[C], mut rows: Vec<A>) -> Result<Statement>
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<Column = C>,
    C: ColumnTrait,
{
    let (source, bound) = unnested(columns, &mut rows)?;
    insert.select_from(source).map_err(Error::bug)?;
    Ok(bind(DbBackend::Postgres.build(&insert), bound))
}

/// These columns of the rows as a SELECT, built as [`from_rows`] does it, and what is to be bound in it.
fn unnested<A, C>(columns: &[C], rows: &mut [A]) -> Result<(SelectStatement, Vec<Value>)>
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<Column = C>,
    C: ColumnTrait,
{
    let mut source = SelectStatement::new();
    let mut bound = Vec::new();
    for column in columns {
        let values = rows.iter_mut().map(|row| take(row, *column)).collect::<Result<Vec<_>>>()?;
        let (text, values) = array(*column, values)?;
        source.expr_as(Expr::cust_with_values(text, values.iter().map(Value::as_null)), *column);
        bound.extend(values);
    }
    Ok((source, bound))
}

/// Puts the values of the rows in the place of those that the statement was built with. What ON CONFLICT binds comes behind
/// them and stays.
fn bind(mut statement: Statement, mut bound: Vec<Value>) -> Statement {
    let behind = statement.values.take().into_iter().flat_map(|values| values.0).skip(bound.len());
    bound.extend(behind);
    statement.values = Some(Values(bound));
    statement
}

fn take<A: ActiveModelTrait>(row: &mut A, column: <A::Entity as EntityTrait>::Column) -> Result<Value> {
    match row.take(column) {
        ActiveValue::Set(value) | ActiveValue::Unchanged(value) => Ok(value),
        ActiveValue::NotSet => Err(Error::bug(anyhow::anyhow!("rows of one insert set different columns"))),
    }
}

/// The values of one column as rows of a SELECT: one array, or texts behind one another, and what is bound in it. A bound array
/// cannot hold NULL, so a value that none of the rows has stands for it.
fn array(column: impl ColumnTrait, mut values: Vec<Value>) -> Result<(String, Vec<Value>)> {
    let def = column.def();
    let (kind, cast) = match def.get_column_type() {
        ColumnType::Integer => (ArrayType::Int, ""),
        ColumnType::BigInteger => (ArrayType::BigInt, ""),
        ColumnType::Double => (ArrayType::Double, ""),
        ColumnType::Boolean => (ArrayType::Bool, ""),
        ColumnType::TimestampWithTimeZone => (ArrayType::ChronoDateTimeUtc, ""),
        ColumnType::Text | ColumnType::String(_) => (ArrayType::String, ""),
        ColumnType::Json | ColumnType::JsonBinary => {
            for value in &mut values {
                if let Value::Json(Some(json)) = value {
                    *value = json.to_string().into();
                }
            }
            (ArrayType::String, "::jsonb")
        }
        other => return Err(Error::bug(anyhow::anyhow!("no array of {other:?}"))),
    };
    // The definition does not say it otherwise.
    let is_nullable = def.clone().nullable() == def;
    if !is_nullable && values.iter().any(is_null) {
        return Err(Error::bug(anyhow::anyhow!("NULL in the column {}", column.as_str())));
    }
    let stand_in = if is_nullable { Some(stand_in(&kind, &values)?) } else { None };
    if kind == ArrayType::String
        && let Some(texts) = joined(&values, stand_in.as_ref())
    {
        let bound = [texts, SEPARATOR.to_string()].map(Value::from).into_iter().chain(stand_in).collect::<Vec<_>>();
        let marks = if bound.len() > 2 { "$1, $2, $3" } else { "$1, $2" };
        return Ok((format!("unnest(string_to_array({marks})){cast}"), bound));
    }
    let Some(stand_in) = stand_in else {
        return Ok((format!("unnest($1){cast}"), vec![Value::Array(kind, Some(Box::new(values)))]));
    };
    for value in values.iter_mut().filter(|value| is_null(value)) {
        *value = stand_in.clone();
    }
    let bound = vec![Value::Array(kind, Some(Box::new(values))), stand_in];
    Ok((format!("NULLIF(unnest($1), $2){cast}"), bound))
}

/// Between texts that are bound as one.
const SEPARATOR: char = '\u{1f}';

/// Texts as one, which is copied on its way to the server as often as each of them would be. None where they could not be told
/// apart again.
fn joined(values: &[Value], stand_in: Option<&Value>) -> Option<String> {
    let mut joined = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            joined.push(SEPARATOR);
        }
        let value = if is_null(value) { stand_in? } else { value };
        let Value::String(Some(text)) = value else { return None };
        if text.contains(SEPARATOR) {
            return None;
        }
        joined.push_str(text);
    }
    // Of nothing the server makes no text at all, instead of one that is empty.
    (!joined.is_empty()).then_some(joined)
}

/// A value of this kind that is none of `values`.
fn stand_in(kind: &ArrayType, values: &[Value]) -> Result<Value> {
    let candidates = (0..).map_while(|n: i32| {
        Some(match kind {
            ArrayType::Int => n.into(),
            ArrayType::BigInt => i64::from(n).into(),
            ArrayType::Double => f64::from(n).into(),
            ArrayType::ChronoDateTimeUtc => DateTime::from_timestamp(n.into(), 0)?.into(),
            ArrayType::String => "\u{1}".repeat(usize::try_from(n).ok()?).into(),
            _ => return None,
        })
    });
    let mut free = candidates.filter(|candidate| !values.iter().any(|value| are_stored_alike(value, candidate)));
    free.next().ok_or_else(|| Error::bug(anyhow::anyhow!("nothing can stand for NULL among {kind:?}")))
}

fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}

/// PostgreSQL keeps instants to the microsecond.
fn are_stored_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::ChronoDateTimeUtc(Some(one)), Value::ChronoDateTimeUtc(Some(other))) => {
            (*one - *other).num_microseconds() == Some(0)
        }
        _ => one == other,
    }
}
