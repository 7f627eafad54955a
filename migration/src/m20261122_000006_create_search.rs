//! What searches for words and places look into, and the indexes that let PostgreSQL narrow and count lists.
//!
//! On PostgreSQL a table of its own beside `event`: an event is written again whenever its answers are counted, and with
//! it all indexes of its table, of which one of words is by far the dearest. Triggers keep it, so that nobody who writes
//! events has to know of it. On SQLite it is an FTS5 index over the text in `event`, kept the same way; places are found
//! by `event_by_point`.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::columns::run;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: [&str; 2] = [
    // Organisers that are no shadows, and accounts that show nothing: few among many.
    r#"CREATE INDEX user_member ON "user" (tenant_id, id) WHERE NOT is_shadow_account"#,
    "CREATE INDEX identity_inactive ON identity (did) WHERE account_status <> 'active'",
];

const DOWN: [&str; 2] = ["DROP INDEX identity_inactive", "DROP INDEX user_member"];

const POSTGRES_UP: [&str; 14] = [
    "CREATE TABLE event_search (event_id bigint PRIMARY KEY, words tsvector NOT NULL, place point)",
    // `search_text` holds words with spaces between them: the database is not asked what a word is.
    "CREATE FUNCTION event_search_words(search_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_to_tsvector(array_remove(string_to_array(search_text, ' '), ''))",
    // Inserts bring whole batches; updates seldom change what is searched, and are asked row by row.
    "CREATE FUNCTION event_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO event_search (event_id, words, place)
            SELECT id, event_search_words(search_text), point(longitude, latitude) FROM written;
        ELSIF TG_OP = 'UPDATE' THEN
            UPDATE event_search
            SET words = event_search_words(NEW.search_text), place = point(NEW.longitude, NEW.latitude)
            WHERE event_id = NEW.id;
        ELSE
            DELETE FROM event_search WHERE event_id = OLD.id;
        END IF;
        RETURN NULL;
    END $$",
    // Text of former versions was no list of words yet.
    "INSERT INTO event_search (event_id, words, place)
    SELECT id, array_to_tsvector(ARRAY(
        SELECT DISTINCT left(word, 64) FROM regexp_split_to_table(search_text, '[^[:alnum:]]+') AS word WHERE word <> '')),
        point(longitude, latitude)
    FROM event",
    "CREATE TRIGGER event_search_insert AFTER INSERT ON event REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION event_search_keep()",
    "CREATE TRIGGER event_search_update AFTER UPDATE OF search_text, latitude, longitude ON event FOR EACH ROW
    WHEN ((OLD.search_text, OLD.latitude, OLD.longitude) IS DISTINCT FROM (NEW.search_text, NEW.latitude, NEW.longitude))
    EXECUTE FUNCTION event_search_keep()",
    "CREATE TRIGGER event_search_delete AFTER DELETE ON event FOR EACH ROW EXECUTE FUNCTION event_search_keep()",
    "CREATE INDEX event_search_words ON event_search USING gin (words)",
    "CREATE INDEX event_search_place ON event_search USING gist (place)",
    "DROP INDEX event_by_point",
    // Beginnings of handles, whatever the database's collation; it serves whole ones as well.
    "DROP INDEX identity_handle",
    "CREATE INDEX identity_handle ON identity (handle text_pattern_ops) WHERE handle IS NOT NULL",
    // Rare kinds of event. As many rows share a key, it stays small.
    "CREATE INDEX event_by_kind ON event (tenant_id, status, mode, source_type)
    WHERE NOT is_hidden AND visibility = 'public' AND status <> 'draft'",
    "CREATE INDEX attendee_from_elsewhere ON event_attendee (tenant_id, updated_at, id)
    WHERE NOT is_hidden AND source_type <> 'bluesky'",
];

/// Indexes of lists, made again so that a list is counted from them alone: they hold what is listed and nothing else.
/// Whatever no other order suits is counted along that of creation, which tells the organiser.
const POSTGRES_LISTS: [(&str, &str, &str); 4] = [
    ("event_by_start", "starts_at", ""),
    ("event_by_creation", "created_at", "INCLUDE (user_id)"),
    ("event_by_update", "updated_at", ""),
    ("event_by_attendance", "confirmed_count", ""),
];

async fn remake_lists(manager: &SchemaManager<'_>, forward: bool) -> Result<(), DbErr> {
    for (name, column, beside) in POSTGRES_LISTS {
        let (beside, condition) = if forward {
            (beside, "NOT is_hidden AND visibility = 'public' AND status <> 'draft'")
        } else {
            ("", "NOT is_hidden")
        };
        let statement = format!("CREATE INDEX {name} ON event (tenant_id, {column}, id) {beside} WHERE {condition}");
        run(manager, &[&format!("DROP INDEX {name}"), &statement]).await?;
    }
    Ok(())
}

const POSTGRES_DOWN: [&str; 11] = [
    "DROP INDEX attendee_from_elsewhere",
    "DROP INDEX event_by_kind",
    "DROP INDEX identity_handle",
    "CREATE INDEX identity_handle ON identity (handle) WHERE handle IS NOT NULL",
    "CREATE INDEX event_by_point ON event (tenant_id, latitude, longitude) WHERE latitude IS NOT NULL",
    "DROP TRIGGER event_search_delete ON event",
    "DROP TRIGGER event_search_update ON event",
    "DROP TRIGGER event_search_insert ON event",
    "DROP FUNCTION event_search_keep()",
    "DROP TABLE event_search",
    "DROP FUNCTION event_search_words(text)",
];

const SQLITE_UP: [&str; 5] = [
    // Only which event holds which word: no places in the text, no text of its own.
    "CREATE VIRTUAL TABLE event_search USING fts5 (
        search_text, content = 'event', content_rowid = 'id', tokenize = \"ascii tokenchars '+#'\", detail = none, columnsize = 0)",
    "CREATE TRIGGER event_search_insert AFTER INSERT ON event BEGIN
        INSERT INTO event_search (rowid, search_text) VALUES (new.id, new.search_text);
    END",
    "CREATE TRIGGER event_search_update AFTER UPDATE OF search_text ON event
    WHEN old.search_text <> new.search_text BEGIN
        INSERT INTO event_search (event_search, rowid, search_text) VALUES ('delete', old.id, old.search_text);
        INSERT INTO event_search (rowid, search_text) VALUES (new.id, new.search_text);
    END",
    "CREATE TRIGGER event_search_delete AFTER DELETE ON event BEGIN
        INSERT INTO event_search (event_search, rowid, search_text) VALUES ('delete', old.id, old.search_text);
    END",
    "INSERT INTO event_search (event_search) VALUES ('rebuild')",
];

const SQLITE_DOWN: [&str; 4] = [
    "DROP TRIGGER event_search_delete",
    "DROP TRIGGER event_search_update",
    "DROP TRIGGER event_search_insert",
    "DROP TABLE event_search",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            run(manager, &POSTGRES_UP).await?;
            remake_lists(manager, true).await
        } else {
            run(manager, &SQLITE_UP).await
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            remake_lists(manager, false).await?;
            run(manager, &POSTGRES_DOWN).await?;
        } else {
            run(manager, &SQLITE_DOWN).await?;
        }
        run(manager, &DOWN).await
    }
}
