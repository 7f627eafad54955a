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

/// Built as [`from_rows`] does it.
fn from_arrays<A, C>(mut insert: InsertStatement, columns: &[C], mut rows: Vec<A>) -> Result<Statement>
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
        source.expr(Expr::cust_with_values(text, values.iter().map(Value::as_null)));
        bound.extend(values);
    }
    insert.select_from(source).map_err(Error::bug)?;
    Ok(bind(DbBackend::Postgres.build(&insert), bound))
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

/// The values of one column as rows of a SELECT: one array, and what is bound in it. A bound array cannot hold NULL, so a
/// value that none of the rows has stands for it.
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
    if !is_nullable {
        if values.iter().any(is_null) {
            return Err(Error::bug(anyhow::anyhow!("NULL in the column {}", column.as_str())));
        }
        return Ok((format!("unnest($1){cast}"), vec![Value::Array(kind, Some(Box::new(values)))]));
    }
    let stand_in = stand_in(&kind, &values)?;
    for value in values.iter_mut().filter(|value| is_null(value)) {
        *value = stand_in.clone();
    }
    let bound = vec![Value::Array(kind, Some(Box::new(values))), stand_in];
    Ok((format!("NULLIF(unnest($1), $2){cast}"), bound))
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
