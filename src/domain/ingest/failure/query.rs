//! Finding parked messages. A payload may have two megabytes, so that lists are read without it.

use std::{collections::HashMap, sync::Arc};

use entities::{ingest_failure as failure, ingest_failure_log as log, sets::FailureState};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, Iterable, Order as Direction,
    QueryFilter, QueryOrder, QuerySelect, Select, Statement,
    sea_query::{Expr, ExprTrait, Func},
};

use super::{Entry, Model, Stage};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        page::{self, KeyKind, Order, Page, Position, Slice},
        range::Range,
    },
    error::Result,
    infra::db::{among, bind_list},
};

/// Characters of a payload that are shown.
const SHOWN: u32 = 65_536;
/// Latest entries of a history that are shown.
const ENTRIES: i64 = 100;

/// Conditions on messages, all of which must hold; what is `None` does not matter, and an empty list matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These keys.
    pub ids: Option<Vec<i64>>,
    /// What became of it.
    pub states: Option<Vec<FailureState>>,
    /// Where it failed.
    pub stages: Option<Vec<Stage>>,
    /// These reasons, such as `EVENT_NAME_MISSING`.
    pub codes: Option<Vec<String>>,
    /// This repository.
    pub did: Option<String>,
    /// This record.
    pub uri: Option<String>,
    /// When it failed last.
    pub failed_at: Option<Range>,
    /// Stands so in the payload or in the reason, letter for letter.
    pub text: Option<String>,
}

impl Filter {
    /// Those that wait for a person.
    pub fn parked() -> Self {
        Self { states: Some(vec![FailureState::Parked]), ..Self::default() }
    }

    pub(super) fn select(&self, backend: DbBackend) -> Select<failure::Entity> {
        let stages = self.stages.as_ref().map(|stages| stages.iter().map(|stage| stage.as_str()));
        let contains = |column: failure::Column, text: &str| {
            // Unlike LIKE the same on both databases, and without anything to escape.
            let function = if backend == DbBackend::Postgres { "strpos" } else { "instr" };
            Expr::expr(Func::cust(function).arg(column.into_expr()).arg(Expr::val(text))).gt(0)
        };
        let text = self.text.as_deref().map(|text| {
            Condition::any().add(contains(failure::Column::Payload, text)).add(contains(failure::Column::Reason, text))
        });
        let condition = Condition::all()
            .add_option(self.ids.clone().map(|ids| among(backend, failure::Column::Id, ids)))
            .add_option(self.states.clone().map(|states| failure::Column::State.is_in(states)))
            .add_option(stages.map(|stages| failure::Column::Stage.is_in(stages)))
            .add_option(self.codes.clone().map(|codes| among(backend, failure::Column::Code, codes)))
            .add_option(self.did.as_ref().map(|did| failure::Column::Did.eq(did)))
            .add_option(self.uri.as_ref().map(|uri| failure::Column::Uri.eq(uri)))
            .add_option(self.failed_at.map(|range| range.condition(failure::Column::LastFailedAt)))
            .add_option(text);
        failure::Entity::find().filter(condition)
    }
}

/// The same rows with an empty payload.
pub(super) fn without_payload(select: Select<failure::Entity>) -> Select<failure::Entity> {
    let others = failure::Column::iter().filter(|column| !matches!(column, failure::Column::Payload));
    select.select_only().columns(others).expr_as(Expr::cust("''"), "payload")
}

/// How the list is cut into pages: what failed last comes first.
pub(crate) fn order() -> Order<failure::Entity> {
    Order {
        tag: b'f',
        key: failure::Column::LastFailedAt,
        kind: KeyKind::Instant,
        nullable: false,
        descending: true,
        id: failure::Column::Id,
        position: |row| Position { key: Some(row.last_failed_at.timestamp_micros()), id: row.id },
    }
}

/// A page of messages, without their payloads.
pub async fn page(app: &App, actor: &Actor, filter: &Filter, slice: &Slice) -> Result<Page<Model>> {
    actor.administers(app.network)?;
    order().page(app.db.read(), without_payload(filter.select(app.db.backend())), slice).await
}

/// Messages with their payloads, by id; those behind this one.
pub async fn following(app: &App, actor: &Actor, filter: &Filter, after: i64, limit: u64) -> Result<Vec<Model>> {
    actor.administers(app.network)?;
    let behind = filter.select(app.db.backend()).filter(failure::Column::Id.gt(after));
    Ok(behind.order_by_asc(failure::Column::Id).limit(limit).all(app.db.read()).await?)
}

/// What happened to one message: its latest hundred attempts and decisions, oldest first.
pub async fn history(app: &App, actor: &Actor, id: i64) -> Result<Vec<Arc<Entry>>> {
    actor.administers(app.network)?;
    Ok(histories(app.db.read(), vec![id]).await?.remove(&id).unwrap_or_default())
}

/// How many there are: exact up to [`page::MAX_TOTAL`], one more for all larger numbers.
pub async fn count(app: &App, actor: &Actor, filter: &Filter) -> Result<u64> {
    actor.administers(app.network)?;
    page::count(app.db.read(), filter.select(app.db.backend())).await
}

/// One message, with its payload.
pub async fn find(app: &App, actor: &Actor, id: i64) -> Result<Option<Model>> {
    actor.administers(app.network)?;
    Ok(failure::Entity::find_by_id(id).one(app.db.read()).await?)
}

/// How many messages failed alike.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Count {
    /// What became of them.
    pub state: FailureState,
    /// Where they failed.
    pub stage: String,
    /// Why.
    pub code: String,
    /// How many.
    pub count: i64,
    /// When the latest of them failed.
    pub last_failed_at: chrono::DateTime<chrono::Utc>,
}

/// Counts by state, stage and code, the largest first; at most 500 of them.
pub async fn counts(app: &App, actor: &Actor, filter: &Filter) -> Result<Vec<Count>> {
    const KINDS: u64 = 500;
    actor.administers(app.network)?;
    let count = || failure::Column::Id.count();
    let alike = [failure::Column::State, failure::Column::Stage, failure::Column::Code];
    let select = filter.select(app.db.backend()).select_only().columns(alike);
    let counts = select
        .column_as(count(), "count")
        .column_as(failure::Column::LastFailedAt.max(), "last_failed_at")
        .group_by(failure::Column::State)
        .group_by(failure::Column::Stage)
        .group_by(failure::Column::Code)
        .order_by(count(), Direction::Desc)
        .order_by_asc(failure::Column::Code)
        .limit(KINDS);
    Ok(counts.into_model().all(app.db.read()).await?)
}

/// Messages by id, without their payloads. Whoever has the ids was allowed to.
pub(crate) async fn by_ids(db: &impl ConnectionTrait, ids: Vec<i64>) -> Result<HashMap<i64, Arc<Model>>> {
    let wanted = among(db.get_database_backend(), failure::Column::Id, ids);
    let rows = without_payload(failure::Entity::find().filter(wanted)).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, Arc::new(row))).collect())
}

/// What is shown of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its beginning.
    pub text: String,
    /// Characters of the whole.
    pub length: i64,
}

/// Payloads by id.
pub(crate) async fn payloads(db: &impl ConnectionTrait, ids: Vec<i64>) -> Result<HashMap<i64, Arc<Payload>>> {
    let backend = db.get_database_backend();
    let (list, ids) = bind_list(backend, &ids);
    let sql = format!(
        "SELECT id, substr(payload, 1, {SHOWN}) AS text, CAST(length(payload) AS bigint) AS length
        FROM ingest_failure WHERE id {list}"
    );
    let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [ids])).await?;
    let read = |row: &sea_orm::QueryResult| {
        let payload = Payload { text: row.try_get("", "text")?, length: row.try_get("", "length")? };
        Ok((row.try_get("", "id")?, Arc::new(payload)))
    };
    rows.iter().map(read).collect()
}

/// Histories by the id of the message, each with its latest entries, oldest first.
pub(crate) async fn histories(db: &impl ConnectionTrait, ids: Vec<i64>) -> Result<HashMap<i64, Vec<Arc<Entry>>>> {
    let backend = db.get_database_backend();
    let (list, ids) = bind_list(backend, &ids);
    let sql = format!(
        "SELECT * FROM (
            SELECT *, row_number() OVER (PARTITION BY failure_id ORDER BY id DESC) AS place
            FROM ingest_failure_log WHERE failure_id {list}) AS ranked
        WHERE place <= {ENTRIES} ORDER BY id"
    );
    let statement = Statement::from_sql_and_values(backend, sql, [ids]);
    let mut histories: HashMap<i64, Vec<Arc<Entry>>> = HashMap::new();
    for entry in log::Model::find_by_statement(statement).all(db).await? {
        histories.entry(entry.failure_id).or_default().push(Arc::new(entry));
    }
    Ok(histories)
}
