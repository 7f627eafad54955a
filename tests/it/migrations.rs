//! The tables: made, taken away and made again, and the same as the entities say.

use std::collections::BTreeMap;

use entities::{
    audit_entry, change, event, event_attendee, event_source, identity, ingest_failure, ingest_failure_log, kv_entry,
    kv_fence, kv_lock, queue_message, service_key, service_key_tenant, session, source_record, stream_cursor, tenant,
    user,
};
use futures_util::future::join_all;
use gateway::infra::db::Db;
use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ColumnTrait, ColumnType, ConnectionTrait, DatabaseConnection, DbBackend, EntityName, EntityTrait, IdenStatic,
    Iterable, Statement,
};

use crate::support::database::{TestDb, on_each_database};

/// Whether a column may be empty, and what it holds.
type Column = (bool, &'static str);

/// Calls the macro with every entity.
macro_rules! every_entity {
    ($call:ident) => {
        $call!(
            audit_entry,
            change,
            event,
            event_attendee,
            event_source,
            identity,
            ingest_failure,
            ingest_failure_log,
            kv_entry,
            kv_fence,
            kv_lock,
            queue_message,
            service_key,
            service_key_tenant,
            session,
            source_record,
            stream_cursor,
            tenant,
            user
        )
    };
}

#[tokio::test]
async fn up_down_and_up_again_leaves_the_same_tables() {
    on_each_database(async |test| {
        let db = test.connect_again().await;
        let first = catalogue(db.read()).await;
        assert!(!first.is_empty());
        // Back and forth step by step, so that no migration leans on a later one.
        for steps in 1..=u32::try_from(Migrator::migrations().len()).unwrap() {
            Migrator::down(db.read(), Some(steps)).await.unwrap();
            Migrator::up(db.read(), None).await.unwrap();
            assert_eq!(catalogue(db.read()).await, first, "after {steps} steps back");
        }
        Migrator::down(db.read(), None).await.unwrap();
        assert_eq!(catalogue(db.read()).await, Vec::<String>::new());
        db.migrate().await.unwrap();
        assert_eq!(catalogue(db.read()).await, first);
        select_all(test).await;
        assert_eq!(tenant::Entity::find().all(db.read()).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_replicas_start_at_once_on_an_empty_database() {
    on_each_database(async |test| {
        let expected = catalogue(test.db.read()).await;
        Migrator::down(test.db.read(), None).await.unwrap();
        test.db.read().execute_unprepared("DROP TABLE seaql_migrations").await.unwrap();
        let replicas = join_all((0..8).map(|_| test.connect_again())).await;
        for outcome in join_all(replicas.iter().map(Db::migrate)).await {
            outcome.unwrap();
        }
        assert_eq!(catalogue(test.db.read()).await, expected);
        let sql = Statement::from_string(test.db.backend(), "SELECT count(*) FROM seaql_migrations");
        let row = test.db.read().query_one_raw(sql).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), i64::try_from(Migrator::migrations().len()).unwrap());
        for replica in replicas {
            replica.close().await;
        }
    })
    .await;
}

async fn select_all(test: &TestDb) {
    macro_rules! select {
        ($($entity:ident),+) => { $($entity::Entity::find().one(test.db.read()).await.unwrap();)+ };
    }
    every_entity!(select);
}

#[tokio::test]
async fn entities_and_tables_agree() {
    on_each_database(async |test| {
        let mut tables = tables(test.db.read()).await;
        macro_rules! compare {
            ($($entity:ident),+) => { $({
                let name = $entity::Entity.table_name();
                let table = tables.remove(name).unwrap_or_default();
                assert_eq!(columns::<$entity::Entity>(test.db.backend()), table, "{name}");
            })+ };
        }
        every_entity!(compare);
        tables.remove("seaql_migrations");
        assert!(tables.is_empty(), "tables without an entity: {tables:?}");
    })
    .await;
}

fn columns<E: EntityTrait>(backend: DbBackend) -> BTreeMap<String, Column> {
    let column = |column: E::Column| {
        let definition = column.def();
        let kind = match (definition.get_column_type(), backend) {
            // SQLite has one kind of whole number, of 64 bits.
            (ColumnType::Integer, DbBackend::Postgres) => "integer",
            (ColumnType::BigInteger | ColumnType::Integer, _) => "long",
            (ColumnType::Boolean, _) => "flag",
            (ColumnType::Double, _) => "double",
            (ColumnType::TimestampWithTimeZone | ColumnType::Timestamp | ColumnType::DateTime, _) => "instant",
            (ColumnType::Json | ColumnType::JsonBinary, _) => "json",
            (ColumnType::Text | ColumnType::String(_), _) => "text",
            (ColumnType::Blob | ColumnType::Binary(_) | ColumnType::VarBinary(_), _) => "bytes",
            (other, _) => panic!("{other:?} is not known here"),
        };
        (column.as_str().to_owned(), (definition.is_null(), kind))
    };
    E::Column::iter().map(column).collect()
}

/// What the database says of itself, by table and column. `event_search` is an index, though it is a table, or several:
/// triggers keep it and no entity reads it.
async fn tables(db: &DatabaseConnection) -> BTreeMap<String, BTreeMap<String, Column>> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT table_name AS t, column_name AS c, data_type AS k, is_nullable = 'YES' AS n
            FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> 'event_search'"
        }
        _ => {
            r#"SELECT m.name AS t, p.name AS c, lower(p.type) AS k, NOT p."notnull" AND NOT p.pk AS n
            FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p
            WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'event_search%'"#
        }
    };
    let mut tables: BTreeMap<String, BTreeMap<String, Column>> = BTreeMap::new();
    for row in db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap() {
        let text = |name: &str| row.try_get::<String>("", name).unwrap();
        let kind = match text("k").as_str() {
            "integer" if db.get_database_backend() == DbBackend::Postgres => "integer",
            "bigint" | "integer" => "long",
            "boolean" => "flag",
            "double precision" | "double" | "real" => "double",
            "timestamp with time zone" | "timestamp_with_timezone_text" => "instant",
            "bytea" | "blob" => "bytes",
            "jsonb" | "jsonb_text" | "json_text" => "json",
            "text" | "varchar" | "character varying" => "text",
            other => panic!("{other} is not known here"),
        };
        tables.entry(text("t")).or_default().insert(text("c"), (row.try_get::<bool>("", "n").unwrap(), kind));
    }
    tables
}

/// Every table, index, trigger and function as the database would make it again, but for those of the migrations themselves.
async fn catalogue(db: &DatabaseConnection) -> Vec<String> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS d
            FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name <> 'seaql_migrations'
            UNION ALL SELECT indexdef FROM pg_indexes
            WHERE schemaname = current_schema() AND tablename <> 'seaql_migrations'
            UNION ALL SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
            WHERE connamespace = current_schema()::regnamespace AND conrelid <> 'seaql_migrations'::regclass
            UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
            ORDER BY 1"
        }
        _ => {
            "SELECT sql AS d FROM sqlite_master
            WHERE sql IS NOT NULL AND tbl_name <> 'seaql_migrations' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
        }
    };
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    rows.iter().map(|row| row.try_get::<String>("", "d").unwrap()).collect()
}
