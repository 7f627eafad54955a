//! The database's own path: the rows that the pipeline wrote, written again by hand, in as many transactions, by the
//! best statements there are. PostgreSQL takes arrays (`INSERT … SELECT FROM UNNEST`) or, which is the fastest way into it, a
//! stream of rows (`COPY`); SQLite inserts of many rows.
//!
//! Columns are found in the catalogue, so that the two sides cannot drift apart. Everything is prepared beforehand, ids
//! included; what is timed is nothing but the writing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    time::Instant,
};

use anyhow::{Result, anyhow};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use gateway::{domain::ingest::LOCK, infra::db::Db};
use sea_orm::{
    DbBackend,
    sqlx::{
        AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection,
        postgres::{PgConnectOptions, PgRow},
        query,
        sqlite::SqliteRow,
    },
};

use crate::cost::{Cost, Meter};

/// The tables that the pipeline writes, in the order of their references, each with its key, the instant that all rows
/// of one batch share, and how many batches earlier its rows are written: batches were written beside each other, so that
/// one may refer to rows of another that began later.
const TABLES: [(&str, &str, &str, usize); 6] = [
    ("identity", "did", "created_at", 0),
    ("source_record", "uri", "ingested_at", 0),
    ("user", "id", "created_at", 2 * LOCK.len()),
    ("event", "id", "ingested_at", LOCK.len()),
    ("event_attendee", "id", "updated_at", 0),
    ("change", "id", "ingested_at", 0),
];

/// Rows of one statement on SQLite; more are slower, because the statement then outgrows the processor's caches.
const ROWS: usize = 50;

/// The values of one column, in one type for each kind that a database stores.
#[derive(Clone, Debug, PartialEq)]
enum Cells {
    Text(Vec<Option<String>>),
    Json(Vec<Option<String>>),
    Instant(Vec<Option<DateTime<Utc>>>),
    Long(Vec<Option<i64>>),
    Int(Vec<Option<i32>>),
    Double(Vec<Option<f64>>),
    Flag(Vec<Option<bool>>),
}

/// Some rows of one table, column by column.
#[derive(Clone, Debug, PartialEq)]
struct Rows {
    table: &'static str,
    columns: Vec<(String, Cells)>,
    count: usize,
}

/// Everything that a database holds, cut into the batches that brought it.
#[derive(Debug, PartialEq)]
pub(crate) struct Content(Vec<Vec<Rows>>);

impl Content {
    /// Reads a database.
    pub(crate) async fn read(db: &Db) -> Result<Self> {
        let mut tables = Vec::new();
        for (table, key, batch, earlier) in TABLES {
            tables.push((read_table(db, table, key, batch).await?, earlier));
        }
        let instants: BTreeSet<String> =
            tables.iter().flat_map(|(batches, _)| batches).map(|(instant, _)| instant.clone()).collect();
        let places: HashMap<&String, usize> = instants.iter().zip(0..).collect();
        let mut batches: Vec<Vec<Rows>> = instants.iter().map(|_| Vec::new()).collect();
        for (table, earlier) in tables {
            for (instant, rows) in table {
                let place = places.get(&instant).map_or(0, |place| place.saturating_sub(earlier));
                batches.get_mut(place).ok_or_else(|| anyhow!("no batch of {instant}"))?.push(rows);
            }
        }
        Ok(Self(batches))
    }

    /// How many batches there are.
    pub(crate) fn batches(&self) -> usize {
        self.0.len()
    }

    /// How many rows a table has.
    pub(crate) fn rows(&self, table: &str) -> usize {
        self.0.iter().flatten().filter(|rows| rows.table == table).map(|rows| rows.count).sum()
    }

    /// Writes everything into an empty database.
    pub(crate) async fn write(&self, db: &Db) -> Result<Cost> {
        let statements: Vec<Vec<Insert<'_>>> =
            self.0.iter().map(|batch| batch.iter().flat_map(|rows| rows.inserts(db.backend())).collect()).collect();
        if db.backend() == DbBackend::Postgres {
            let mut connection = db.pool().get_postgres_connection_pool().acquire().await?;
            let meter = Meter::start(db).await?;
            let began = Instant::now();
            for batch in &statements {
                let mut tx = connection.begin().await?;
                for insert in batch {
                    insert.run_on_postgres(&mut tx).await?;
                }
                tx.commit().await?;
            }
            meter.stop(began.elapsed()).await
        } else {
            let mut connection = db.pool().get_sqlite_connection_pool().acquire().await?;
            let meter = Meter::start(db).await?;
            let began = Instant::now();
            for batch in &statements {
                let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
                for insert in batch {
                    insert.run_on_sqlite(&mut tx).await?;
                }
                tx.commit().await?;
            }
            meter.stop(began.elapsed()).await
        }
    }
}

impl Content {
    /// Writes everything into an empty database of PostgreSQL by `COPY`.
    pub(crate) async fn copy(&self, db: &Db) -> Result<Cost> {
        let texts: Vec<Vec<(String, Vec<u8>)>> =
            self.0.iter().map(|batch| batch.iter().map(Rows::as_text).collect()).collect();
        // Rows and their end travel in two parts. Over TCP the second waits for the first to be acknowledged, since the driver
        // leaves Nagle's algorithm on, for 40 ms a table.
        let pool = db.pool().get_postgres_connection_pool();
        let folder: String = query("SHOW unix_socket_directories").fetch_one(pool).await?.try_get(0)?;
        let mut options = PgConnectOptions::clone(&pool.connect_options());
        if let Some(folder) = folder.split(',').map(str::trim).find(|folder| Path::new(folder).is_dir()) {
            options = options.socket(folder);
        }
        let mut connection = PgConnection::connect_with(&options).await?;
        let meter = Meter::start(db).await?;
        let began = Instant::now();
        for batch in &texts {
            let mut tx = connection.begin().await?;
            for (sql, text) in batch {
                let mut into = tx.copy_in_raw(sql).await?;
                into.send(text.as_slice()).await?;
                into.finish().await?;
            }
            tx.commit().await?;
        }
        meter.stop(began.elapsed()).await
    }
}

/// One statement with what it is to write.
struct Insert<'a> {
    sql: String,
    rows: &'a Rows,
    /// The first of its rows, and how many there are.
    from: usize,
    count: usize,
}

impl Rows {
    fn inserts(&self, backend: DbBackend) -> Vec<Insert<'_>> {
        let names = self.columns.iter().map(|(name, _)| format!(r#""{name}""#)).collect::<Vec<_>>().join(", ");
        if backend == DbBackend::Postgres {
            let arrays = (1..).zip(&self.columns).map(|(n, (_, cells))| format!("${n}::{}[]", cells.bound_as()));
            let read = self.columns.iter().map(|(name, cells)| match cells {
                Cells::Json(_) => format!(r#""{name}"::jsonb"#),
                _ => format!(r#""{name}""#),
            });
            let (arrays, read) = (arrays.collect::<Vec<_>>().join(", "), read.collect::<Vec<_>>().join(", "));
            let sql =
                format!(r#"INSERT INTO "{}" ({names}) SELECT {read} FROM UNNEST({arrays}) AS r ({names})"#, self.table);
            return vec![Insert { sql, rows: self, from: 0, count: self.count }];
        }
        let marks = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let starts = (0..self.count).step_by(ROWS);
        starts
            .map(|from| {
                let count = ROWS.min(self.count - from);
                let values = vec![marks.as_str(); count].join(", ");
                let sql = format!(r#"INSERT INTO "{}" ({names}) VALUES {values}"#, self.table);
                Insert { sql, rows: self, from, count }
            })
            .collect()
    }
}

impl Rows {
    /// The statement, and the rows as it reads them: a line each, cells between tabs.
    fn as_text(&self) -> (String, Vec<u8>) {
        let names = self.columns.iter().map(|(name, _)| format!(r#""{name}""#)).collect::<Vec<_>>().join(", ");
        let mut text = Vec::new();
        for row in 0..self.count {
            for (at, (_, cells)) in self.columns.iter().enumerate() {
                if at > 0 {
                    text.push(b'\t');
                }
                match cells.text(row) {
                    None => text.extend_from_slice(b"\\N"),
                    Some(cell) => {
                        let cell =
                            cell.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r").replace('\t', r"\t");
                        text.extend_from_slice(cell.as_bytes());
                    }
                }
            }
            text.push(b'\n');
        }
        (format!(r#"COPY "{}" ({names}) FROM STDIN"#, self.table), text)
    }
}

impl Insert<'_> {
    async fn run_on_postgres(&self, connection: &mut PgConnection) -> Result<()> {
        let mut query = query(AssertSqlSafe(self.sql.as_str()));
        for (_, cells) in &self.rows.columns {
            query = match cells {
                Cells::Text(cells) | Cells::Json(cells) => query.bind(cells),
                Cells::Instant(cells) => query.bind(cells),
                Cells::Long(cells) => query.bind(cells),
                Cells::Int(cells) => query.bind(cells),
                Cells::Double(cells) => query.bind(cells),
                Cells::Flag(cells) => query.bind(cells),
            };
        }
        connection.execute(query).await?;
        Ok(())
    }

    async fn run_on_sqlite(&self, connection: &mut SqliteConnection) -> Result<()> {
        let mut query = query(AssertSqlSafe(self.sql.as_str()));
        for row in self.from..self.from + self.count {
            for (_, cells) in &self.rows.columns {
                query = match cells {
                    Cells::Text(cells) | Cells::Json(cells) => query.bind(cells.get(row).and_then(Option::as_deref)),
                    Cells::Instant(cells) => query.bind(cells.get(row).copied().flatten()),
                    Cells::Long(cells) => query.bind(cells.get(row).copied().flatten()),
                    Cells::Int(cells) => query.bind(cells.get(row).copied().flatten()),
                    Cells::Double(cells) => query.bind(cells.get(row).copied().flatten()),
                    Cells::Flag(cells) => query.bind(cells.get(row).copied().flatten()),
                };
            }
        }
        connection.execute(query).await?;
        Ok(())
    }
}

/// The rows of a table by the instant of their batch.
async fn read_table(db: &Db, table: &'static str, key: &str, batch: &str) -> Result<Vec<(String, Rows)>> {
    let mut batches: BTreeMap<String, Rows> = BTreeMap::new();
    if db.backend() == DbBackend::Postgres {
        let pool = db.pool().get_postgres_connection_pool();
        let sql = "SELECT column_name::text, data_type::text FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
        let columns = query(sql).bind(table).fetch_all(pool).await?;
        let columns = columns.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let columns = columns.collect::<Result<Vec<(String, String)>>>()?;
        let chosen = columns.iter().map(|(name, kind)| match kind.as_str() {
            "jsonb" => format!(r#""{name}"::text"#),
            _ => format!(r#""{name}""#),
        });
        let chosen = chosen.collect::<Vec<_>>().join(", ");
        let sql = format!(r#"SELECT "{batch}"::text, {chosen} FROM "{table}" AS r ORDER BY r."{batch}", r."{key}""#);
        // One by one: a large table would be held twice over.
        let mut found = query(AssertSqlSafe(sql)).fetch(pool);
        while let Some(row) = found.try_next().await? {
            let rows = batches.entry(row.try_get(0)?).or_insert_with(|| Rows::new(table, &columns));
            rows.count += 1;
            for (at, (_, cells)) in (1..).zip(&mut rows.columns) {
                cells.take_from_postgres(&row, at)?;
            }
        }
    } else {
        let pool = db.pool().get_sqlite_connection_pool();
        let columns = query("SELECT name, type FROM pragma_table_info(?)").bind(table).fetch_all(pool).await?;
        let columns = columns.iter().map(|row| Ok((row.try_get(0)?, affinity(row.try_get(1)?).to_owned())));
        let columns = columns.collect::<Result<Vec<(String, String)>>>()?;
        let chosen = columns.iter().map(|(name, _)| format!(r#""{name}""#)).collect::<Vec<_>>().join(", ");
        let sql = format!(r#"SELECT "{batch}", {chosen} FROM "{table}" ORDER BY "{batch}", "{key}""#);
        for row in query(AssertSqlSafe(sql)).fetch_all(pool).await? {
            let rows = batches.entry(row.try_get_unchecked(0)?).or_insert_with(|| Rows::new(table, &columns));
            rows.count += 1;
            for (at, (_, cells)) in (1..).zip(&mut rows.columns) {
                cells.take_from_sqlite(&row, at)?;
            }
        }
    }
    Ok(batches.into_iter().collect())
}

/// The kind in which SQLite stores a column of this declared type.
fn affinity(declared: &str) -> &'static str {
    let declared = declared.to_ascii_lowercase();
    let is = |part| declared.contains(part);
    if is("int") || is("bool") {
        "bigint"
    } else if is("double") || is("real") || is("float") {
        "double precision"
    } else {
        "text"
    }
}

impl Rows {
    fn new(table: &'static str, columns: &[(String, String)]) -> Self {
        let columns = columns.iter().map(|(name, kind)| (name.clone(), Cells::of(kind))).collect();
        Self { table, columns, count: 0 }
    }
}

impl Cells {
    fn of(kind: &str) -> Self {
        match kind {
            "jsonb" => Self::Json(Vec::new()),
            "timestamp with time zone" => Self::Instant(Vec::new()),
            "bigint" => Self::Long(Vec::new()),
            "integer" => Self::Int(Vec::new()),
            "double precision" => Self::Double(Vec::new()),
            "boolean" => Self::Flag(Vec::new()),
            _ => Self::Text(Vec::new()),
        }
    }

    /// Type of an element of the array that PostgreSQL is given.
    fn bound_as(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Json(_) => "text",
            Self::Instant(_) => "timestamptz",
            Self::Long(_) => "bigint",
            Self::Int(_) => "integer",
            Self::Double(_) => "float8",
            Self::Flag(_) => "boolean",
        }
    }

    fn text(&self, row: usize) -> Option<String> {
        match self {
            Self::Text(cells) | Self::Json(cells) => cells.get(row)?.clone(),
            Self::Instant(cells) => cells.get(row)?.as_ref().map(DateTime::to_rfc3339),
            Self::Long(cells) => cells.get(row)?.as_ref().map(ToString::to_string),
            Self::Int(cells) => cells.get(row)?.as_ref().map(ToString::to_string),
            Self::Double(cells) => cells.get(row)?.as_ref().map(ToString::to_string),
            Self::Flag(cells) => cells.get(row)?.as_ref().map(ToString::to_string),
        }
    }

    fn take_from_postgres(&mut self, row: &PgRow, at: usize) -> Result<()> {
        match self {
            Self::Text(cells) | Self::Json(cells) => cells.push(row.try_get(at)?),
            Self::Instant(cells) => cells.push(row.try_get(at)?),
            Self::Long(cells) => cells.push(row.try_get(at)?),
            Self::Int(cells) => cells.push(row.try_get(at)?),
            Self::Double(cells) => cells.push(row.try_get(at)?),
            Self::Flag(cells) => cells.push(row.try_get(at)?),
        }
        Ok(())
    }

    /// As it is stored: an instant is text there, and stays the text that it is.
    fn take_from_sqlite(&mut self, row: &SqliteRow, at: usize) -> Result<()> {
        match self {
            Self::Text(cells) => cells.push(row.try_get_unchecked(at)?),
            Self::Long(cells) => cells.push(row.try_get_unchecked(at)?),
            Self::Double(cells) => cells.push(row.try_get_unchecked(at)?),
            _ => return Err(anyhow!("a column of a kind that SQLite does not store")),
        }
        Ok(())
    }
}
