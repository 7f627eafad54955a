//! The change log through GraphQL: pages and the subscription, with the same cursors.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use async_graphql::{Request, Response, Variables};
use entities::{
    identity,
    sets::{AccountStatus, ChangeOperation, HandleStatus},
};
use futures_util::{Stream, StreamExt};
use gateway::{
    api::graphql::{RequestLoaders, Schema, schema},
    app::App,
    config,
    infra::clock::Clock,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, IntoActiveModel};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{
    changes::{commit, event, instant, row},
    database::{TestDb, on_each_database},
};

/// Far more than any of this takes.
const NEVER: Duration = Duration::from_mins(1);

const SUBSCRIPTION: &str = "subscription ($after: StreamCursor, $filter: EventIngestedFilter) {
    eventIngested(after: $after, filter: $filter) {
        cursor operation eventId uri source changedFields occurredAt ingestedAt event { id name organizer { handle } }
    }
}";

const PAGE: &str = "query ($after: StreamCursor, $first: Int! = 100, $filter: EventIngestedFilter) {
    eventChanges(after: $after, first: $first, filter: $filter) {
        changes { cursor operation eventId event { id } } endCursor hasMore
    }
}";

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_shows_what_is_true_at_each_delivery() {
    on_each_database(async |test| {
        let app = open(test).await;
        let shutdown = CancellationToken::new();
        let _guard = shutdown.clone().drop_guard();
        tokio::spawn(app.changes.clone().run(shutdown));
        let schema = schema(&app);
        let party = event(&test.db, test.tenant, "party", |_| {}).await;
        let other = event(&test.db, test.tenant, "other", |_| {}).await;
        let identity = name(test, "did:plc:party", "old.example.com").await;
        let filter = json!({ "organizers": [{ "handle": "old.example.com" }], "operation": ["UPDATED"] });

        let start = page(&app, &schema, json!({})).await["endCursor"].take();
        let mut live = subscribe(&app, &schema, json!({ "filter": filter, "after": start }));
        by(test, other, party).await;
        let answer = next(&mut live).await;
        assert_eq!(answer["event"]["name"], "party");
        assert_eq!(answer["event"]["organizer"]["handle"], "old.example.com");
        assert_eq!(answer["operation"], "UPDATED");
        assert_eq!(answer["changedFields"], json!(["name"]));
        assert_eq!(answer["ingestedAt"], "1970-01-01T00:00:00Z");

        let mut renamed = identity.into_active_model();
        renamed.handle = Set(Some("new.example.com".into()));
        let renamed = &renamed;
        test.db.transact(|tx| async move { Ok(renamed.clone().update(&*tx).await?) }).await.unwrap();
        by(test, other, party).await;
        let second = next(&mut live).await;
        assert_eq!(second["event"]["organizer"]["handle"], "new.example.com");

        // The old handle names nobody any more, so a list that holds only it matches nothing; the DID does.
        let filter = json!({ "organizers": [{ "did": "did:plc:party" }] });
        let mut resumed = subscribe(&app, &schema, json!({ "filter": filter, "after": answer["cursor"] }));
        assert_eq!(next(&mut resumed).await["cursor"], second["cursor"]);
        let gone = json!({ "organizers": [{ "handle": "old.example.com" }] });
        let page = page(&app, &schema, json!({ "filter": gone })).await;
        assert_eq!(page["changes"], json!([]));
        assert_eq!(page["endCursor"], second["cursor"]);
    })
    .await;
}

#[tokio::test]
async fn pages_resume_where_they_ended() {
    on_each_database(async |test| {
        let app = open(test).await;
        let schema = schema(&app);
        let visible = event(&test.db, test.tenant, "visible", |_| {}).await;
        let hidden = event(&test.db, test.tenant, "hidden", |event| event.is_hidden = Set(true)).await;
        commit(&test.db, [visible, hidden, visible, hidden, visible].map(|id| row(test.tenant, id)).into())
            .await
            .unwrap();
        let mut after = Value::Null;
        let mut shown = Vec::new();
        loop {
            let page = page(&app, &schema, json!({ "after": after, "first": 2 })).await;
            for change in page["changes"].as_array().unwrap() {
                assert!(change["event"].is_null() || change["event"]["id"] == change["eventId"]);
                shown.push(!change["event"].is_null());
            }
            after = page["endCursor"].clone();
            if page["hasMore"] == json!(false) {
                break;
            }
        }
        assert_eq!(shown, [true, false, true, false, true]);
        let empty = page(&app, &schema, json!({ "after": after })).await;
        assert_eq!(empty, json!({ "changes": [], "endCursor": after, "hasMore": false }));

        // Events are read only for those who ask for them.
        let before = app.db.statement_count();
        page(&app, &schema, json!({})).await;
        let with_events = app.db.statement_count() - before;
        let answer = execute(&app, &schema, "{ eventChanges { changes { cursor } } }", json!({})).await;
        assert!(answer.is_ok(), "{:?}", answer.errors);
        assert_eq!(app.db.statement_count() - before - with_events, with_events - 1);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_field_and_reason() {
    on_each_database(async |test| {
        let app = open(test).await;
        let schema = schema(&app);
        let crowd = vec![json!({ "did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz" }); 101];
        for (variables, field, reason) in [
            (json!({ "first": 0 }), "first", "PAGE_SIZE_OUT_OF_RANGE"),
            (json!({ "first": 501 }), "first", "PAGE_SIZE_OUT_OF_RANGE"),
            (json!({ "first": -1 }), "first", "PAGE_SIZE_OUT_OF_RANGE"),
            (json!({ "after": "nonsense" }), "after", "CURSOR_INVALID"),
            // Well made, but of a log that has been further than this one.
            (json!({ "after": "YzE6OTk" }), "after", "CURSOR_INVALID"),
            (json!({ "filter": { "organizers": crowd } }), "organizers", "TOO_MANY_VALUES"),
            (
                json!({ "filter": { "near": { "latitude": 91, "longitude": 0, "radiusMeters": 1 } } }),
                "near",
                "GEO_OUT_OF_RANGE",
            ),
        ] {
            let mut answers = vec![execute(&app, &schema, PAGE, variables.clone()).await];
            if field != "first" {
                let mut stream = subscribe(&app, &schema, variables.clone());
                answers.push(tokio::time::timeout(NEVER, stream.next()).await.unwrap().unwrap());
                assert!(stream.next().await.is_none());
            }
            for answer in answers {
                let errors = serde_json::to_value(&answer.errors).unwrap();
                let extensions = &errors[0]["extensions"];
                assert_eq!(extensions["code"], "BAD_USER_INPUT", "{variables}: {errors}");
                assert_eq!(
                    (&extensions["field"], &extensions["reason"]),
                    (&json!(field), &json!(reason)),
                    "{variables}"
                );
            }
        }
    })
    .await;
}

async fn open(test: &TestDb) -> App {
    let flags = format!("database = {{ url = {:?} }}", test.url).parse().unwrap();
    let config = config::load(None, std::iter::empty(), flags).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

fn request(app: &App, query: &str, variables: Value) -> Request {
    Request::new(query).variables(Variables::from_json(variables)).data(RequestLoaders::new(app))
}

async fn execute(app: &App, schema: &Schema, query: &str, variables: Value) -> Response {
    schema.execute(request(app, query, variables)).await
}

async fn page(app: &App, schema: &Schema, variables: Value) -> Value {
    let answer = execute(app, schema, PAGE, variables).await;
    assert!(answer.is_ok(), "{:?}", answer.errors);
    answer.data.into_json().unwrap()["eventChanges"].take()
}

fn subscribe(app: &App, schema: &Schema, variables: Value) -> impl Stream<Item = Response> + Unpin + use<> {
    schema.execute_stream(request(app, SUBSCRIPTION, variables)).boxed()
}

async fn next(answers: &mut (impl Stream<Item = Response> + Unpin)) -> Value {
    let answer = tokio::time::timeout(NEVER, answers.next()).await.expect("a delivery is missing").unwrap();
    assert!(answer.is_ok(), "{:?}", answer.errors);
    answer.data.into_json().unwrap()["eventIngested"].take()
}

/// Commits one change of each event, of which only the last one is an update.
async fn by(test: &TestDb, created: i64, updated: i64) {
    let mut created = row(test.tenant, created);
    created.operation = Set(ChangeOperation::Created);
    let mut updated = row(test.tenant, updated);
    updated.organizer_did = Set(Some("did:plc:party".into()));
    commit(&test.db, vec![created, updated]).await.unwrap();
}

async fn name(test: &TestDb, did: &str, handle: &str) -> identity::Model {
    let now = instant(0);
    let identity = identity::ActiveModel {
        did: Set(did.into()),
        handle: Set(Some(handle.into())),
        handle_status: Set(HandleStatus::Verified),
        account_status: Set(AccountStatus::Active),
        next_check_at: Set(now),
        check_attempts: Set(0),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    let identity = &identity;
    test.db.transact(|tx| async move { Ok(identity.clone().insert(&*tx).await?) }).await.unwrap()
}
