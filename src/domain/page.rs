//! Keyset pages: a page begins where another one ended, so that nothing is counted or skipped to get there, and rows
//! that come or go elsewhere never shift it.
//!
//! An [`Order`] sorts by one column and then by id, in one direction. Rows without a value in that column come last in
//! both directions; they are read as a second part, because no index yields them in place on both databases.
//!
//! Invariant: walking a list forwards or backwards, in pages of any sizes, gives each row that stays put exactly once
//! and in the same order.

mod slice;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Datelike, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
    sea_query::{self, Expr, ExprTrait, Func, Query, SelectStatement, Value, WindowStatement},
};

pub use self::slice::{Position, Slice, Wanted};
use self::slice::{decode_cursor, encode_cursor};
use crate::error::{Error, Result};

/// Totals are exact up to here; one more stands for all that are larger.
pub const MAX_TOTAL: u64 = 10_000;

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Page<M> {
    /// Rows, in the order of the list whichever way they were read.
    pub rows: Vec<Arc<M>>,
    /// Rows follow.
    pub has_next: bool,
    /// Rows precede.
    pub has_previous: bool,
}

impl<M> Default for Page<M> {
    fn default() -> Self {
        Self { rows: Vec::new(), has_next: false, has_previous: false }
    }
}

/// What the sort column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Instant,
    Number,
}

/// The order of a list.
pub(crate) struct Order<E: EntityTrait> {
    /// Names the order inside cursors, so that a cursor of another order is noticed.
    pub(crate) tag: u8,
    pub(crate) key: E::Column,
    pub(crate) kind: KeyKind,
    pub(crate) nullable: bool,
    pub(crate) descending: bool,
    pub(crate) id: E::Column,
    /// Reads the position of a row.
    pub(crate) position: fn(&E::Model) -> Position,
}

/// How rows are told apart when the first rows of several lists are read at once.
pub(crate) struct Group<E: EntityTrait> {
    pub(crate) column: E::Column,
    pub(crate) of: fn(&E::Model) -> i64,
}

impl<E: EntityTrait> Order<E> {
    /// The part of the list that somebody asks for; `max` is the largest page.
    ///
    /// Errors: [`Error::Invalid`] naming the argument that is out of range or was made for another order.
    pub(crate) fn slice(&self, wanted: &Wanted, max: u32) -> Result<Slice> {
        let (size, backward) = wanted.size(max)?;
        let read = |text: &Option<String>, field| text.as_ref().map(|text| self.decode_cursor(text, field)).transpose();
        Ok(Slice { size, backward, after: read(&wanted.after, "after")?, before: read(&wanted.before, "before")? })
    }

    fn decode_cursor(&self, text: &str, field: &'static str) -> Result<Position> {
        decode_cursor(self.tag, text)
            .filter(|position| position.key.map_or(self.nullable, |key| self.value(key).is_some()))
            .ok_or_else(|| Error::invalid(field, "CURSOR_INVALID", "this is no cursor of a list in this order"))
    }

    /// The opaque text of a row's position.
    pub(crate) fn cursor(&self, row: &E::Model) -> String {
        encode_cursor(self.tag, (self.position)(row))
    }

    /// One page of what `select` finds: one statement, or two where it reaches the rows without a key.
    pub(crate) async fn page(
        &self,
        db: &impl ConnectionTrait,
        select: Select<E>,
        slice: &Slice,
    ) -> Result<Page<E::Model>> {
        // One more than wanted tells whether there are more.
        let wanted = slice.size.saturating_add(1);
        let mut rows: Vec<E::Model> = Vec::new();
        for (keyed, condition) in self.parts(slice) {
            let missing = wanted.saturating_sub(rows.len() as u64);
            if missing == 0 {
                break;
            }
            let mut part = select.clone().filter(condition);
            if keyed {
                part = part.order_by(self.key, self.direction(slice));
            }
            rows.extend(part.order_by(self.id, self.direction(slice)).limit(missing).all(db).await?);
        }
        Ok(assemble(rows, slice))
    }

    /// The same page of each of several lists, in one statement. `select` finds the rows of all of them, of which
    /// `group` says where each belongs; a list without rows has no entry.
    pub(crate) async fn page_of_each(
        &self,
        db: &impl ConnectionTrait,
        select: Select<E>,
        group: &Group<E>,
        slice: &Slice,
    ) -> Result<HashMap<i64, Page<E::Model>>>
    where
        E::Model: FromQueryResult,
    {
        let parts = self.parts(slice);
        if parts.is_empty() {
            // The bounds exclude each other, and a condition of no parts would hold for every row.
            return Ok(HashMap::new());
        }
        let statement = db.get_database_backend().build(&self.first_of_each(select, group, slice, parts));
        let mut groups: HashMap<i64, Vec<E::Model>> = HashMap::new();
        for row in E::Model::find_by_statement(statement).all(db).await? {
            groups.entry((group.of)(&row)).or_default().push(row);
        }
        Ok(groups.into_iter().map(|(key, rows)| (key, assemble(rows, slice))).collect())
    }

    fn first_of_each(
        &self,
        select: Select<E>,
        group: &Group<E>,
        slice: &Slice,
        parts: Vec<(bool, Condition)>,
    ) -> SelectStatement {
        let direction = self.direction(slice);
        let mut window = WindowStatement::partition_by(group.column.as_column_ref());
        if self.nullable {
            let last = if slice.backward { sea_query::Order::Desc } else { sea_query::Order::Asc };
            sea_query::OrderedStatement::order_by_expr(&mut window, self.key.is_null(), last);
        }
        sea_query::OrderedStatement::order_by_expr(&mut window, self.key.into_expr(), direction.clone());
        sea_query::OrderedStatement::order_by_expr(&mut window, self.id.into_expr(), direction);
        let any = parts.into_iter().fold(Condition::any(), |any, (_, condition)| any.add(condition));
        let mut ranked = select.filter(any).into_query();
        ranked.expr_window_as(Func::cust("ROW_NUMBER"), window, "place_in_group");
        Query::select()
            .column(sea_query::Asterisk)
            .from_subquery(ranked, "ranked")
            .and_where(Expr::col("place_in_group").lte(i64::try_from(slice.size).unwrap_or(i64::MAX).saturating_add(1)))
            .order_by("place_in_group", sea_query::Order::Asc)
            .take()
    }

    /// The parts of the list that can hold wanted rows, in the order of reading, each with its condition; the flag says
    /// whether its rows have keys.
    fn parts(&self, slice: &Slice) -> Vec<(bool, Condition)> {
        let mut parts = Vec::with_capacity(2);
        // Rows with a key; all of them come before a position without one.
        if slice.after.is_none_or(|after| after.key.is_some()) {
            let mut condition = Condition::all();
            if self.nullable {
                condition = condition.add(self.key.is_not_null());
            }
            condition = condition.add_option(slice.after.and_then(|after| self.beyond(after, !self.descending)));
            condition = condition.add_option(slice.before.and_then(|before| self.beyond(before, self.descending)));
            parts.push((true, condition));
        }
        // Rows without one; all of them come after a position with one.
        if self.nullable && slice.before.is_none_or(|before| before.key.is_none()) {
            let bound = |position: Option<Position>| position.filter(|position| position.key.is_none());
            let after = bound(slice.after).map(|after| side(self.id.into_expr(), after.id.into(), !self.descending));
            let before = bound(slice.before).map(|before| side(self.id.into_expr(), before.id.into(), self.descending));
            parts.push((false, Condition::all().add(self.key.is_null()).add_option(after).add_option(before)));
        }
        if slice.backward {
            parts.reverse();
        }
        parts
    }

    /// Rows with a key on one side of a position; `None` for a position without a key, which bounds none of them.
    fn beyond(&self, position: Position, greater: bool) -> Option<Expr> {
        let key = self.value(position.key?)?;
        let row = Expr::tuple([self.key.into_expr(), self.id.into_expr()]);
        Some(side(row, Expr::tuple([Expr::val(key), Expr::val(position.id)]), greater))
    }

    fn value(&self, key: i64) -> Option<Value> {
        match self.kind {
            KeyKind::Number => Some(key.into()),
            // What neither database can store is no key of a row.
            KeyKind::Instant => DateTime::<Utc>::from_timestamp_micros(key)
                .filter(|instant| (0..=9999).contains(&instant.year()))
                .map(Into::into),
        }
    }

    fn direction(&self, slice: &Slice) -> sea_query::Order {
        if self.descending == slice.backward { sea_query::Order::Asc } else { sea_query::Order::Desc }
    }
}

/// How many rows `select` finds: exact up to [`MAX_TOTAL`], one more for all larger numbers.
pub(crate) async fn count<E: EntityTrait>(db: &impl ConnectionTrait, select: Select<E>) -> Result<u64> {
    let few = select.select_only().expr_as(Expr::val(1), "one").limit(MAX_TOTAL + 1).into_query();
    let total = Query::select().expr_as(Expr::cust("COUNT(*)"), "total").from_subquery(few, "few").take();
    let row = db.query_one(&total).await?.ok_or_else(|| Error::bug(anyhow::anyhow!("a count without a row")))?;
    Ok(u64::try_from(row.try_get::<i64>("", "total")?).unwrap_or_default())
}

fn side(left: Expr, right: Expr, greater: bool) -> Expr {
    if greater { left.gt(right) } else { left.lt(right) }
}

/// Rows as they were read, at most one more than wanted, become the page.
fn assemble<M>(mut rows: Vec<M>, slice: &Slice) -> Page<M> {
    let wanted = usize::try_from(slice.size).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let rows: Vec<Arc<M>> = if slice.backward {
        rows.into_iter().rev().map(Arc::new).collect()
    } else {
        rows.into_iter().map(Arc::new).collect()
    };
    // A bound is the cursor of a row, so that there is at least that row on its other side.
    let (beyond_end, beyond_start) = (slice.before.is_some(), slice.after.is_some());
    if slice.backward {
        Page { rows, has_next: beyond_end, has_previous: more || beyond_start }
    } else {
        Page { rows, has_next: more || beyond_end, has_previous: beyond_start }
    }
}
