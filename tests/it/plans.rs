//! Whether the schema's queries find what they want through indexes, on PostgreSQL with as many rows as a busy gateway
//! has. What the server counts is looked at, and not an explanation: it holds for the statements as the program makes
//! them, with their values, and for whichever plan the server chose in the end.

mod admin;

use std::{collections::BTreeMap, fs, path::Path};

use async_graphql::{Request, Variables};
use gateway::{
    api::graphql::{RequestLoaders, Schema, schema},
    app::App,
    config,
    domain::{
        actor::{self, Actor, Shown},
        key::SOURCES,
    },
    infra::clock::Clock,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};

use crate::support::{app::make_key_of, database::postgres};

/// Tables that grow with the network. No query may read one of them from one end to the other.
const BIG: [&str; 10] = [
    "change",
    "event",
    "event_attendee",
    "event_search",
    "event_source",
    "identity",
    "ingest_failure",
    "ingest_failure_log",
    "source_record",
    "user",
];

/// The server plans a statement for its values five times before it considers one plan for all.
const RUNS: usize = 7;

/// Queries that may all the same, with their reason.
const EXCEPTIONS: [(&str, &str, &str); 2] =
    [("count shadowAccounts", "user", COUNTED), ("count shadowAccounts", "identity", COUNTED)];

const COUNTED: &str = "a count of many accounts stops at 10,001 of them, and their rows are hardly larger than their keys \
    in an index: the server may rather begin to read the table";

const FILL: [&str; 8] = [
    "INSERT INTO identity (did, handle, handle_status, account_status, next_check_at, check_attempts, created_at,
        updated_at)
    SELECT 'did:plc:' || left(translate(md5(n::text), '0189', 'wxyz'), 24), 'person' || n || '.example.com',
        CASE n % 10 WHEN 0 THEN 'unknown' ELSE 'verified' END,
        CASE n % 200 WHEN 0 THEN 'deactivated' ELSE 'active' END, now(), 0, now(), now()
    FROM generate_series(1, 30000) AS n",
    r#"INSERT INTO "user" (tenant_id, did, is_shadow_account, role, provider, created_at, updated_at)
    SELECT t.id, did, row_number() OVER () % 100 <> 0, CASE row_number() OVER () % 100 WHEN 0 THEN 'member' END, 'bluesky',
        now() - row_number() OVER (ORDER BY did) * interval '1 hour', now()
    FROM identity, tenant AS t"#,
    "INSERT INTO event (tenant_id, user_id, slug, name, starts_at, status, mode, visibility, locations, links, latitude,
        longitude, sphere_x, sphere_y, sphere_z, search_text, source_type, record_uri, record_cid, record_rev, is_hidden,
        confirmed_count, maybe_count, cancelled_count, created_at, updated_at, ingested_at)
    SELECT u.tenant_id, u.id, 'event-' || n, 'Event ' || n,
        CASE WHEN n % 50 > 0 THEN timestamptz '2026-01-01' + n * 7919::bigint % 100000 * interval '10 min' END,
        CASE WHEN n % 97 = 0 THEN 'cancelled' WHEN n % 89 = 0 THEN 'draft' WHEN n % 20000 = 7 THEN 'postponed'
            ELSE 'scheduled' END,
        CASE n % 3 WHEN 0 THEN 'virtual' ELSE 'in_person' END,
        CASE n % 83 WHEN 0 THEN 'unlisted' ELSE 'public' END, '[]', '[]', latitude, longitude,
        cosd(latitude) * cosd(longitude), cosd(latitude) * sind(longitude), sind(latitude),
        concat_ws(' ', 'event', n, 'w' || n % 5, 'x' || n % 1000, 'y' || n % 50021), 'bluesky',
        'at://' || u.did || '/community.lexicon.calendar.event/' || n, md5(n::text), '3l' || n, n % 200 = 0,
        n % 301, n % 7, n % 5, timestamptz '2026-01-01' + n * 6007::bigint % 100000 * interval '10 min',
        timestamptz '2026-01-01' + n * 5003::bigint % 100000 * interval '10 min', now()
    FROM (SELECT n, CASE WHEN n % 4 > 0 THEN 60 * sin(n) END AS latitude, 170 * sin(n * 1.7) AS longitude
        FROM generate_series(1, 100000) AS n) AS points
        JOIN \"user\" AS u ON u.id = (SELECT min(id) FROM \"user\") + n * 7919::bigint % 30000",
    "INSERT INTO event_attendee (tenant_id, event_id, user_id, status, source_type, record_uri, record_cid, record_rev,
        is_hidden, created_at, updated_at)
    SELECT e.tenant_id, e.id, (SELECT min(id) FROM \"user\") + (e.id * 7907 + k) % 30000,
        CASE (e.id + k) % 5 WHEN 0 THEN 'maybe' WHEN 1 THEN 'cancelled' ELSE 'confirmed' END, 'bluesky',
        'at://did:plc:guest/community.lexicon.calendar.rsvp/' || e.id || '-' || k, md5(e.id::text), '3l' || k,
        (e.id + k) % 200 = 0, now(), now() - (e.id * 5003 % 100000 + k) * interval '1 s'
    FROM event AS e, generate_series(1, 3) AS k",
    "INSERT INTO change (tenant_id, event_id, event_uri, operation, changed_fields, source_type, organizer_did, starts_at,
        latitude, longitude, occurred_at, ingested_at)
    SELECT e.tenant_id, e.id, e.record_uri, CASE e.id % 3 WHEN 0 THEN 'updated' ELSE 'created' END, '[]', 'bluesky',
        u.did, e.starts_at, e.latitude, e.longitude, now(), now()
    FROM event AS e JOIN \"user\" AS u ON u.id = e.user_id",
    "INSERT INTO source_record (uri, did, collection, rkey, rev, cid, record, verdict, issues, occurred_at, ingested_at)
    SELECT event_uri, organizer_did, 'community.lexicon.calendar.event', event_id::text, '3l', 'c', '{}', 'valid', '[]',
        now(), now()
    FROM change",
    "INSERT INTO event_source (uri, tenant_id, event_uri, method, page, fingerprint, matched_at)
    SELECT record_uri, tenant_id, record_uri, 'uri', 'https://www.example.com/' || id, md5(id::text), now() FROM event",
    // As the server does by itself where rows come over hours.
    "VACUUM ANALYZE",
];

/// What is asked: a name, a document, its variables.
type Asked = (String, String, Value);

#[tokio::test]
async fn no_query_reads_a_big_table_from_end_to_end() {
    let Some(test) = postgres().await else { return };
    // One connection: its counts are complete, and its plans are those of a program that has run for a while.
    let settings =
        format!("database = {{ url = {:?}, max_connections = 1 }}\nstreams = {{ endpoints = [] }}", test.url);
    let config = config::load(None, std::iter::empty(), settings.parse().unwrap()).unwrap();
    let app = App::open(config, Clock::system()).await.unwrap();
    // The program has the server avoid what is looked for here; where it chooses freely, it is to find the better way too.
    app.db.read().execute_unprepared("SET statement_timeout = 0; SET enable_seqscan = on").await.unwrap();
    for statement in admin::FILL.into_iter().chain(FILL) {
        app.db.read().execute_unprepared(statement).await.unwrap();
    }
    let schema = schema(&app);
    let mut found = Vec::new();
    let key = format!("Bearer {}", make_key_of(&app, &["default"], &SOURCES, true).await);
    let actor = actor::identify(&app, Shown { authorization: Some(&key), cookie: None }, None).await.unwrap();
    for asked in asked(&app).await.into_iter().chain(admin::asked()) {
        let before = scans(&app).await;
        let known = prepared(&app).await;
        for _ in 0..RUNS {
            run(&app, &schema, &actor, &asked).await;
        }
        let after = scans(&app).await;
        let (name, _, variables) = asked;
        let is_excused = |table: &str| EXCEPTIONS.iter().any(|(query, big, _)| *query == name && *big == table);
        let is_read = |table: &&str| after[*table] > before[*table] && !is_excused(table);
        let read: Vec<&str> = BIG.into_iter().filter(is_read).collect();
        if !read.is_empty() {
            let new: Vec<String> = prepared(&app).await.into_iter().filter(|text| !known.contains(text)).collect();
            found.push(format!("{name} {variables} reads all of {}\n  {}", read.join(", "), new.join("\n  ")));
        }
    }
    app.db.close().await;
    test.discard().await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

async fn run(app: &App, schema: &Schema, actor: &Actor, (name, document, variables): &Asked) {
    let request = Request::new(document.clone())
        .variables(Variables::from_json(variables.clone()))
        .data(RequestLoaders::new(app));
    // Who administers sees what everybody sees, and more.
    let request = request.data(actor.clone());
    let response = schema.execute(request).await;
    assert!(response.errors.is_empty(), "{name} {variables}: {:?}", response.errors);
}

/// How often each big table has been read from end to end, parts of one reading included.
async fn scans(app: &App) -> BTreeMap<String, i64> {
    let flush = "SELECT pg_stat_force_next_flush()";
    app.db.read().execute_unprepared(flush).await.unwrap();
    let sql = "SELECT relname::text AS name, seq_scan FROM pg_stat_user_tables";
    let rows = app.db.read().query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    rows.iter().map(|row| (row.try_get("", "name").unwrap(), row.try_get("", "seq_scan").unwrap())).collect()
}

/// The statements that the connection has been given so far.
async fn prepared(app: &App) -> Vec<String> {
    column(app, "SELECT statement FROM pg_prepared_statements").await
}

async fn column(app: &App, sql: &str) -> Vec<String> {
    let rows = app.db.read().query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Every example for clients, every key, every filter and every order.
async fn asked(app: &App) -> Vec<Asked> {
    let people = column(app, "SELECT did FROM identity WHERE did IN (SELECT organizer_did FROM change LIMIT 40)").await;
    let uris = column(app, "SELECT record_uri FROM event WHERE NOT is_hidden ORDER BY id LIMIT 40").await;
    let ids = ids(app, &uris).await;
    let mut asked = examples(&people, &uris, &ids);
    let mut ask = |name: &str, document: &str, variables: Value| {
        asked.push((name.to_owned(), document.to_owned(), variables));
    };
    let keys = "query($s: String!, $u: AtUri!, $i: String!, $id: ID!) {
        a: event(by: {slug: $s}) { atproto { value } } b: event(by: {uri: $u}) { slug } c: event(by: {id: $id}) { slug }
        d: event(by: {source: {type: BLUESKY, id: $i}}) { slug } }";
    ask("keys", keys, json!({ "s": "event-4711", "u": uris[0], "i": uris[1], "id": ids[0] }));
    let events = "query($f: EventFilter, $o: EventOrder) { events(filter: $f, orderBy: $o) {
        totalCount pageInfo { endCursor }
        nodes { slug organizer { id handle ... on ShadowAccount { events(first: 2) { totalCount nodes { slug } } } }
            rsvps(first: 3) { totalCount nodes { attendee { handle } } } } } }";
    for filter in event_filters(&people) {
        ask("events", events, json!({ "f": filter, "o": { "field": "STARTS_AT", "direction": "ASC" } }));
    }
    let pages = "query($o: EventOrder, $f: EventFilter) {
        events(first: 5, orderBy: $o) { nodes { slug } } back: events(last: 5, orderBy: $o) { nodes { slug } }
        narrow: events(first: 5, orderBy: $o, filter: $f) { nodes { slug } } }";
    for field in ["STARTS_AT", "CREATED_AT", "UPDATED_AT", "ATTENDEE_COUNT"] {
        for direction in ["ASC", "DESC"] {
            let filter = json!({ "mode": ["VIRTUAL"], "startsAt": { "from": "2026-06-01T00:00:00Z" } });
            ask("orders", pages, json!({ "o": { "field": field, "direction": direction }, "f": filter }));
        }
    }
    let rsvps = "query($f: RsvpFilter) { rsvps(filter: $f) {
        totalCount nodes { status event { slug } attendee { handle } } } }";
    for filter in [
        json!({}),
        json!({ "eventIds": [ids[0], ids[1]] }),
        json!({ "attendees": [{ "did": people[0] }, { "handle": "person77.example.com" }] }),
        json!({ "status": ["CONFIRMED"] }),
        json!({ "status": ["CANCELLED", "MAYBE"] }),
        json!({ "source": ["BLUESKY"] }),
        json!({ "source": ["WEB", "OTHER"] }),
        json!({ "updatedAt": { "from": "2026-01-01T00:00:00Z" } }),
        json!({ "updatedAt": { "to": "2020-01-01T00:00:00Z" } }),
    ] {
        ask("rsvps", rsvps, json!({ "f": filter }));
    }
    let one = "query($u: AtUri!, $e: ID!, $d: ActorRef!, $h: ActorRef!) { a: rsvp(by: {uri: $u}) { id }
        b: rsvp(by: {attendance: {eventId: $e, attendee: $d}}) { id }
        c: rsvp(by: {attendance: {eventId: $e, attendee: $h}}) { id } }";
    let uri = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/community.lexicon.calendar.rsvp/1";
    let by = json!({ "u": uri, "e": ids[0], "d": { "did": people[0] }, "h": { "handle": "person77.example.com" } });
    ask("rsvp", one, by);
    let shadows = "query($f: ShadowAccountFilter) { shadowAccounts(first: 30, filter: $f) {
        nodes { handle events(first: 2) { totalCount nodes { slug } } } } }";
    let count_shadows = "query($f: ShadowAccountFilter) { shadowAccounts(filter: $f) { totalCount } }";
    for filter in [
        json!({}),
        json!({ "handlePrefix": "person2999" }),
        json!({ "handlePrefix": "person" }),
        json!({ "handlePrefix": "nobody" }),
        json!({ "createdAt": { "from": "2026-01-01T00:00:00Z" } }),
        json!({ "createdAt": { "to": "2020-01-01T00:00:00Z" } }),
        json!({ "minimumEventCount": 1 }),
        json!({ "minimumEventCount": 3 }),
        json!({ "minimumEventCount": 1000 }),
        json!({ "minimumEventCount": 2, "handlePrefix": "person1" }),
    ] {
        ask("shadowAccounts", shadows, json!({ "f": filter }));
        ask("count shadowAccounts", count_shadows, json!({ "f": filter }));
    }
    let changes = "query($f: EventIngestedFilter) { eventChanges(first: 20, filter: $f) {
        changes { operation event { slug } } hasMore } }";
    for filter in [
        json!({}),
        json!({ "source": ["WEB"], "operation": ["DELETED"] }),
        json!({ "organizers": [{ "did": people[0] }, { "handle": "person77.example.com" }] }),
        json!({ "startsAt": { "from": "2030-01-01T00:00:00Z" } }),
        json!({ "near": { "latitude": 52.5, "longitude": 13.4, "radiusMeters": 20000 } }),
    ] {
        ask("eventChanges", changes, json!({ "f": filter }));
    }
    asked
}

fn event_filters(people: &[String]) -> Vec<Value> {
    let range = |from: &str, to: &str| json!({ "from": from, "to": to });
    let near = |latitude: f64, longitude: f64, meters: i64| json!({ "near": { "latitude": latitude, "longitude": longitude, "radiusMeters": meters } });
    let dids: Vec<Value> = people.iter().map(|did| json!({ "did": did })).collect();
    vec![
        json!({}),
        json!({ "query": "event" }),
        json!({ "query": "x77 w" }),
        json!({ "query": "y4711" }),
        json!({ "query": "nowhere" }),
        json!({ "query": "e 4 w x y" }),
        json!({ "query": "' | & !:* \" \\ --" }),
        json!({ "startsAt": range("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z") }),
        json!({ "startsAt": { "from": "2026-02-01T00:00:00Z" } }),
        json!({ "startsAt": { "to": "2020-02-01T00:00:00Z" } }),
        json!({ "updatedAt": range("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z") }),
        json!({ "updatedAt": { "from": "2026-02-01T00:00:00Z" } }),
        json!({ "status": ["SCHEDULED"] }),
        json!({ "status": ["SCHEDULED", "RESCHEDULED", "PLANNED"] }),
        json!({ "status": ["CANCELLED"] }),
        json!({ "status": ["POSTPONED", "RESCHEDULED"] }),
        json!({ "status": ["PLANNED"] }),
        json!({ "mode": ["VIRTUAL"] }),
        json!({ "mode": ["HYBRID"] }),
        json!({ "source": ["BLUESKY"] }),
        json!({ "source": ["WEB", "OPENMEET"] }),
        json!({ "organizers": [dids[0]] }),
        json!({ "organizers": dids }),
        json!({ "organizers": [{ "handle": "person77.example.com" }] }),
        json!({ "organizers": [dids[0], { "handle": "person77.example.com" }] }),
        json!({ "organizedByShadowAccount": true }),
        json!({ "organizedByShadowAccount": false }),
        near(52.5, 13.4, 1_000),
        near(52.5, 13.4, 50_000),
        near(-17.0, 179.0, 500_000),
        near(89.9, 0.0, 500_000),
    ]
}

/// The documents of `client-examples/operations`, but for those of administrators, who are few and ask rarely, those of members,
/// whose lists are found by one account as others are, for the subscription, which follows the log as `EventChanges` does, and
/// for profiles, which another host has.
fn examples(people: &[String], uris: &[String], ids: &[String]) -> Vec<Asked> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("client-examples/operations");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut examples = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let document = fs::read_to_string(path).unwrap();
        if document.starts_with("# For administrators") || document.starts_with("# For members") {
            continue;
        }
        let from = "2026-06-01T00:00:00Z";
        let variables = match &*name {
            "EndOfChanges" | "EventChanges" | "ServiceInfo" => json!({}),
            "EventByUri" => json!({ "uri": uris[0] }),
            // It follows the log; and what profiles ask of the tables are keys of two rows.
            "EventIngested" | "BlueskyProfile" | "BlueskyProfiles" => continue,
            "EventPage" => json!({ "slug": "event-4711" }),
            "EventsNear" => json!({ "latitude": 48.8, "longitude": 2.3, "radiusMeters": 30_000, "from": from }),
            "Node" => json!({ "id": ids[0] }),
            "Nodes" => json!({ "ids": ids }),
            "OrganizerEvents" => json!({ "did": people[0] }),
            "Rsvps" => json!({ "attendee": { "did": people[0] } }),
            "SearchEvents" => json!({ "text": "event w3" }),
            "ShadowAccounts" => json!({ "minimumEventCount": 1 }),
            "UpcomingEvents" => json!({ "from": from }),
            other => panic!("{other} has no variables here"),
        };
        examples.push((name, document, variables));
    }
    assert!(!examples.is_empty());
    examples
}

/// Ids as clients see them.
async fn ids(app: &App, uris: &[String]) -> Vec<String> {
    let schema = schema(app);
    let mut ids = Vec::new();
    for uri in uris {
        let request = Request::new("query($u: AtUri!) { event(by: {uri: $u}) { id } }")
            .variables(Variables::from_json(json!({ "u": uri })))
            .data(RequestLoaders::new(app));
        let data = schema.execute(request).await.data.into_json().unwrap();
        ids.extend(data["event"]["id"].as_str().map(str::to_owned));
    }
    assert!(ids.len() > 10);
    ids
}
