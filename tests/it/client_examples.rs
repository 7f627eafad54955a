//! What stands in `client-examples/`, and what the reference suites of `tests/conformance` say, tried on the running
//! program: an example that no longer works fails here before it misleads anybody.

mod feed;
mod running;
mod scripts;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use self::running::{NAMES, PLACE, Running, guest, organizer};
use crate::support::node::Packages;

/// The project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn operations_are_counted_by_their_names() {
    let config = gateway::config::load(None, Vec::new(), toml::Table::new()).unwrap();
    let files = fs::read_dir(root().join("client-examples/operations")).unwrap();
    let mut names: BTreeSet<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    // What GraphiQL asks first.
    names.insert("IntrospectionQuery".to_owned());
    assert_eq!(config.graphql.named_operations, names.into_iter().collect::<Vec<_>>(), "src/config.default.toml");
}

#[tokio::test]
async fn every_operation_answers() {
    let running = Running::start().await;
    running.program.replay(&running.program.file(["nonsense"])).await;
    let key = running.admin_key().await;
    let mut known = known(&running, &key).await;
    let (member, account) = running.member().await;
    known["member"] = json!(account);
    let mut names = BTreeSet::new();
    let mut operations: Vec<(bool, String, String)> = Vec::new();
    for entry in fs::read_dir(root().join("client-examples/operations")).unwrap() {
        let path = entry.unwrap().path();
        let document = fs::read_to_string(&path).unwrap();
        operations.push((
            document.contains("\nmutation "),
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            document,
        ));
    }
    // What writes comes last: the others are to find what is known of.
    operations.sort();
    for (_, name, document) in operations {
        let (variables, shown) = expected(&name, &known);
        let shown_key = [("# For administrators", &key), ("# For members", &member)]
            .into_iter()
            .find_map(|(whom, key)| document.starts_with(whom).then_some(key.as_str()));
        let data = match name.as_str() {
            "EventIngested" => running.graphql().subscribe(&document, &variables).await.next().await,
            "IngestFailureChanged" => {
                // Before anything that happened.
                let variables = json!({ "after": "ZjE6MA" });
                running.graphql().subscribe_as(&key, &document, &variables).await.next().await
            }
            _ => running.graphql().query_as(shown_key, &document, &variables).await,
        };
        for (pointer, value) in shown {
            assert_eq!(data.pointer(pointer), Some(&value), "{name}: {pointer} in {data:#}");
        }
        names.insert(name);
    }
    assert!(names.len() >= 25, "only {names:?}");
}

/// The first event with what names it, the oldest cursor, a message that was put aside, and a key.
async fn known(running: &Running, key: &str) -> Value {
    let document = "{
        events(first: 1) { nodes { id slug atproto { uri } rsvps { nodes { id } } organizer { id } } }
        serviceInfo { oldestCursor newestCursor }
        admin { ingestFailures { nodes { id } } }
    }";
    let mut known = running.graphql().query_as(Some(key), document, &json!({})).await;
    // One that may be revoked.
    let create = "mutation { createServiceKey(input: { name: \"short\", isAdmin: true }) { serviceKey { id } } }";
    let made = running.graphql().query_as(Some(key), create, &json!({})).await;
    known["key"] = made["createServiceKey"]["serviceKey"]["id"].clone();
    known
}

/// Variables of an operation, and what its answer then shows where.
fn expected(operation: &str, known: &Value) -> (Value, Vec<(&'static str, Value)>) {
    let event = &known["events"]["nodes"][0];
    let [id, slug, uri] = ["/id", "/slug", "/atproto/uri"].map(|pointer| event.pointer(pointer).unwrap().clone());
    let failure = &known["admin"]["ingestFailures"]["nodes"][0]["id"];
    let from = "2090-01-01T00:00:00Z";
    let (latitude, longitude) = PLACE;
    match operation {
        "UpcomingEvents" => (
            json!({ "from": from, "first": 1 }),
            vec![
                ("/events/nodes/0/name", json!(NAMES[0])),
                ("/events/nodes/0/attendance", json!({ "confirmedCount": 1, "maybeCount": 1 })),
                ("/events/pageInfo/hasNextPage", json!(true)),
            ],
        ),
        "EventPage" => (
            json!({ "slug": slug }),
            vec![
                ("/event/name", json!(NAMES[0])),
                ("/event/locations/0/__typename", json!("GeoLocation")),
                ("/event/locations/1/locality", json!("Berlin")),
                ("/event/organizer/did", json!(organizer())),
                ("/event/rsvps/pageInfo/hasNextPage", json!(false)),
            ],
        ),
        "EventByUri" => (json!({ "uri": uri }), vec![("/event/atproto/value/name", json!(NAMES[0]))]),
        "EventsNear" => (
            json!({ "latitude": latitude + 0.01, "longitude": longitude, "radiusMeters": 5_000, "from": from }),
            vec![("/events/nodes/0/name", json!(NAMES[0])), ("/events/pageInfo/hasNextPage", json!(false))],
        ),
        "SearchEvents" => (
            json!({ "text": "garden party" }),
            vec![("/events/totalCount", json!(1)), ("/events/edges/0/node/name", json!(NAMES[1]))],
        ),
        "OrganizerEvents" => {
            (json!({ "did": organizer() }), vec![("/shadowAccount/events/nodes/0/name", json!(NAMES[0]))])
        }
        "ShadowAccounts" => {
            (json!({ "minimumEventCount": 1 }), vec![("/shadowAccounts/nodes/0/did", json!(organizer()))])
        }
        "BlueskyProfile" => (
            json!({ "actor": { "did": guest(1) } }),
            vec![("/blueskyProfile/did", json!(guest(1))), ("/blueskyProfile/source", json!("APP_VIEW"))],
        ),
        "BlueskyProfiles" => (
            json!({ "actors": [{ "did": guest(1) }, { "did": organizer() }] }),
            vec![("/blueskyProfiles/1/did", json!(organizer())), ("/blueskyProfiles/0/source", json!("APP_VIEW"))],
        ),
        "Rsvps" => (
            json!({ "attendee": { "did": guest(1) } }),
            vec![("/rsvps/nodes/0/status", json!("CONFIRMED")), ("/rsvps/nodes/0/event/name", json!(NAMES[0]))],
        ),
        "Node" => (json!({ "id": id }), vec![("/node/__typename", json!("Event")), ("/node/slug", slug)]),
        "Nodes" => (
            json!({ "ids": [event["rsvps"]["nodes"][0]["id"], id, event["organizer"]["id"]] }),
            vec![
                ("/nodes/0/__typename", json!("Rsvp")),
                ("/nodes/1/name", json!(NAMES[0])),
                ("/nodes/2/__typename", json!("ShadowAccount")),
            ],
        ),
        "EventChanges" => {
            (json!({}), vec![("/eventChanges/changes/0/uri", uri), ("/eventChanges/hasMore", json!(false))])
        }
        "EndOfChanges" => {
            (json!({}), vec![("/serviceInfo/newestCursor", known["serviceInfo"]["newestCursor"].clone())])
        }
        "EventIngested" => {
            let change = json!({ "after": known["serviceInfo"]["oldestCursor"] });
            (change, vec![("/eventIngested/event/attendance/cancelledCount", json!(0))])
        }
        "ServiceInfo" => (json!({}), vec![("/serviceInfo/version", json!(env!("CARGO_PKG_VERSION")))]),
        "IngestFailures" => (
            json!({ "filter": { "stage": ["RECEIVE"] } }),
            vec![
                ("/admin/ingestFailures/nodes/0/id", failure.clone()),
                ("/admin/ingestFailureCounts/0/count", json!(1)),
            ],
        ),
        "IngestFailure" => (json!({ "id": failure }), vec![("/admin/ingestFailure/payload/text", json!("nonsense"))]),
        "RetryIngestFailures" => (
            json!({ "select": { "ids": [failure] }, "dryRun": true }),
            vec![("/retryIngestFailures/results/0/outcome", json!("UNTOUCHED"))],
        ),
        "DiscardIngestFailures" => (
            json!({ "select": { "filter": {} }, "reason": "only a test", "dryRun": true }),
            vec![("/discardIngestFailures/matchedCount", json!(1))],
        ),
        "IngestFailureChanged" => (json!({}), vec![("/ingestFailureChanged/failureId", failure.clone())]),
        "ServiceKeys" => (json!({}), vec![("/admin/serviceKeys/pageInfo/hasNextPage", json!(false))]),
        "CreateServiceKey" => {
            (json!({ "name": "scraper", "sources": ["WEB"] }), vec![("/createServiceKey/userErrors", json!([]))])
        }
        "RevokeServiceKey" => (json!({ "id": known["key"] }), vec![("/revokeServiceKey/userErrors", json!([]))]),
        "IngestEvents" => {
            let event = json!({
                "name": "Brought", "startDate": "1999-05-01T17:00:00Z",
                "source": { "type": "BLUESKY", "id": guest(5), "metadata": { "rkey": "brought" } },
            });
            (json!({ "events": [event] }), vec![("/ingestEvents/results/0/userErrors", json!([]))])
        }
        "IngestRsvps" => {
            let rsvp = json!({
                "eventSourceId": uri, "eventSourceType": "BLUESKY", "userDid": guest(6), "status": "CANCELLED",
            });
            (json!({ "rsvps": [rsvp] }), vec![("/ingestRsvps/results/0/outcome", json!("CREATED"))])
        }
        "DeleteIngestedEvent" => (
            json!({ "sourceType": "BLUESKY", "sourceId": format!("at://{}/community.lexicon.calendar.event/no", guest(5)) }),
            vec![("/deleteIngestedEvent/userErrors/0/code", json!("NOT_FOUND"))],
        ),
        "Viewer" => (
            json!({}),
            vec![
                ("/viewer/role", json!("MEMBER")),
                ("/viewer/blueskyLink/connected", json!(true)),
                ("/viewer/sessions/0/isCurrent", json!(true)),
            ],
        ),
        // Not there, so that the others can still be tried.
        "RevokeSession" => {
            (json!({ "id": "c2Vzc2lvbjo5OTk" }), vec![("/revokeSession/userErrors/0/code", json!("NOT_FOUND"))])
        }
        "ClaimShadowAccount" => (
            json!({ "id": event["organizer"]["id"] }),
            vec![("/claimShadowAccount/userErrors/0/reason", json!("NOT_YOURS"))],
        ),
        "UpdateSyncPreferences" => {
            (json!({ "autoPost": true }), vec![("/updateSyncPreferences/blueskyLink/autoPost", json!(true))])
        }
        "DisconnectBluesky" => (json!({}), vec![("/disconnectBluesky/blueskyLink/connected", json!(false))]),
        "AllShadowAccounts" => {
            (json!({ "first": 50 }), vec![("/admin/shadowAccounts/pageInfo/hasNextPage", json!(false))])
        }
        "AuditLog" => (
            json!({ "filter": { "action": ["JOINED"] } }),
            vec![("/admin/auditLog/nodes/0/accountId", known["member"].clone())],
        ),
        "CreateShadowAccount" => {
            (json!({ "did": guest(8) }), vec![("/createShadowAccount/shadowAccount/displayName", json!(guest(8)))])
        }
        "SetMemberRole" => {
            (json!({ "id": known["member"], "role": "ADMIN" }), vec![("/setMemberRole/userErrors", json!([]))])
        }
        unknown => panic!("{unknown}.graphql is new: say here what it is asked with and what it shows"),
    }
}

#[tokio::test]
async fn http_and_sockets_conform() {
    let packages = Packages::installed("tests/conformance").await;
    let running = Running::start().await;
    let url = format!("{}/graphql", running.url());
    for arguments in [&["http.mjs"][..], &["--test", "socket.mjs"]] {
        let said = packages.run("node", arguments, &[("GRAPHQL_URL", &url)]).await;
        println!("{said}");
    }
}
