//! Keys of several tenants: what each opens follows from the tenant that the request means.

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use gateway::domain::{
    key::{self, SOURCES},
    tenant,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Bench;
use crate::support::{
    app::make_key_of,
    database::{on_each_database, sqlite},
    graphql::GraphQl,
    process::{Program, kill},
    records::{BEGINNING, EVENT, did, tid},
};

const FAILURES: &str = "{ admin { ingestFailures { totalCount } } }";
const INGEST: &str = "mutation ($event: ExternalEventInput!) {
    ingestEvents(input: { events: [$event] }) { results { outcome userErrors { code } } }
}";

async fn ask(bench: &Bench, key: &str, tenant: Option<&str>, document: &str, variables: Value) -> Value {
    let body = json!({ "query": document, "variables": variables }).to_string();
    let mut request = Request::post("/graphql").header("content-type", "application/json");
    request = request.header("authorization", format!("Bearer {key}"));
    if let Some(tenant) = tenant {
        request = request.header("x-tenant-id", tenant);
    }
    let response = bench.doors.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 24).await.unwrap()).unwrap()
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_key_administers_the_tenant_that_the_request_means() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        tenant::create(app, "other", "Other").await.unwrap();
        let theirs = make_key_of(app, &["other"], &SOURCES, true).await;
        let both = make_key_of(app, &["other", "default"], &SOURCES, true).await;
        // To name one's own tenant does not make it the network's.
        for (key, tenant, expected) in [
            (&theirs, None, "FORBIDDEN"),
            (&theirs, Some("other"), "FORBIDDEN"),
            (&theirs, Some("default"), "FORBIDDEN"),
            (&both, None, "FORBIDDEN"),
            (&both, Some("other"), "FORBIDDEN"),
            (&both, Some("default"), ""),
            (&bench.key, Some("default"), ""),
            (&bench.key, Some("other"), "FORBIDDEN"),
            (&bench.key, Some("nowhere"), "NOT_FOUND"),
        ] {
            let answer = ask(&bench, key, tenant, FAILURES, json!({})).await;
            assert_eq!(code(&answer), expected, "{tenant:?} {answer}");
        }

        let keys = "{ admin { serviceKeys { totalCount nodes { id } } } }";
        let seen = ask(&bench, &theirs, None, keys, json!({})).await["data"]["admin"]["serviceKeys"].take();
        assert_eq!(seen["totalCount"], 2, "its own, and the one that opens other tenants too: {seen}");
        let revoke = "mutation ($id: ID!) { revokeServiceKey(input: { serviceKeyId: $id }) { serviceKey { id } } }";
        let shared = ask(&bench, &theirs, None, revoke, json!({ "id": seen["nodes"][0]["id"] })).await;
        assert_eq!(code(&shared), "FORBIDDEN", "{shared}");
        assert!(key::verify(app, &both).await.unwrap().is_some());
        let own = ask(&bench, &both, None, revoke, json!({ "id": seen["nodes"][1]["id"] })).await;
        assert_eq!(own["data"]["revokeServiceKey"]["serviceKey"]["id"], seen["nodes"][1]["id"], "{own}");
        let made = "mutation { createServiceKey(input: { name: \"x\", sources: [WEB] }) { secret } }";
        let made = ask(&bench, &both, Some("default"), made, json!({})).await;
        let secret = made["data"]["createServiceKey"]["secret"].as_str().unwrap();
        assert_eq!(key::verify(app, secret).await.unwrap().unwrap().tenant, app.network);
    })
    .await;
}

#[tokio::test]
async fn events_are_brought_to_the_tenant_that_the_request_means() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        tenant::create(app, "other", "Other").await.unwrap();
        let both = make_key_of(app, &["other", "default"], &SOURCES, true).await;
        let web =
            json!({ "name": "Theirs", "startDate": "2027-01-01T18:00:00Z", "source": { "type": "WEB", "id": "1" } });
        let told = ask(&bench, &both, None, INGEST, json!({ "event": web })).await;
        assert_eq!(told["data"]["ingestEvents"]["results"][0]["outcome"], "CREATED", "{told}");
        let metadata = json!({ "rkey": tid(BEGINNING, 7), "collection": EVENT, "rev": tid(BEGINNING, 1) });
        let network = json!({
            "name": "Of the network", "startDate": "2027-01-01T18:00:00Z",
            "source": { "type": "BLUESKY", "id": did(1, 1), "metadata": metadata },
        });
        for (tenant, expected) in
            [(None, Some("FORBIDDEN")), (Some("other"), Some("FORBIDDEN")), (Some("default"), None)]
        {
            let told = ask(&bench, &both, tenant, INGEST, json!({ "event": network })).await;
            let result = &told["data"]["ingestEvents"]["results"][0];
            assert_eq!(result["userErrors"][0]["code"].as_str(), expected, "{tenant:?} {told}");
        }
        // What it reads is of the tenant that it writes to.
        let list = "{ events { nodes { name } } }";
        for (tenant, expected) in [(None, "Theirs"), (Some("other"), "Theirs"), (Some("default"), "Of the network")] {
            let answer = ask(&bench, &both, tenant, list, json!({})).await;
            assert_eq!(answer["data"]["events"]["nodes"], json!([{ "name": expected }]), "{tenant:?} {answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_means_the_tenant_that_it_names_when_it_introduces_itself() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    let app = &bench.test.app;
    tenant::create(app, "other", "Other").await.unwrap();
    let both = make_key_of(app, &["default", "other"], &SOURCES, false).await;
    let own = make_key_of(app, &["default"], &SOURCES, false).await;
    let web = json!({ "name": "Theirs", "startDate": "2027-01-01T18:00:00Z", "source": { "type": "WEB", "id": "1" } });
    let admin = make_key_of(app, &["other"], &SOURCES, true).await;
    let told = ask(&bench, &admin, None, INGEST, json!({ "event": web })).await;
    assert_eq!(told["data"]["ingestEvents"]["results"][0]["outcome"], "CREATED", "{told}");

    let (child, address) = Program::over(&database.url).serve_api().await;
    let api = GraphQl::new(address.parse().unwrap());
    let with = |key: &str, tenant: &str| json!({ "Authorization": format!("Bearer {key}"), "X-Tenant-ID": tenant });
    for (header, init, expected) in [
        (None, json!({}), Ok(false)),
        (None, json!({ "x-tenant-id": "other" }), Ok(true)),
        (None, json!({ "x-tenant-id": null }), Ok(false)),
        (Some("other"), json!({}), Ok(true)),
        // What is said later, and where browsers can say it, counts.
        (Some("other"), json!({ "x-tenant-id": "default" }), Ok(false)),
        (Some("default"), json!({ "x-tenant-id": "other" }), Ok(true)),
        (None, with(&both, "other"), Ok(true)),
        (None, with(&both, "default"), Ok(false)),
        (None, with(&own, "other"), Err(Some(4403))),
        (None, with(&own, "nowhere"), Err(Some(4404))),
        (None, json!({ "x-tenant-id": "nowhere" }), Err(Some(4404))),
        (None, json!({ "x-tenant-id": 7 }), Err(Some(4404))),
        (Some("nowhere"), json!({}), Err(None)),
    ] {
        let headers: Vec<_> = header.iter().map(|name| ("x-tenant-id", *name)).collect();
        let became = match api.greet(&headers, Some(init.clone())).await {
            Ok(mut socket) => {
                socket.start("{ events { nodes { name } } }", &json!({})).await.unwrap();
                Ok(socket.next().await["events"]["nodes"] == json!([{ "name": "Theirs" }]))
            }
            Err(code) => Err(code),
        };
        assert_eq!(became, expected, "{header:?} {init}");
    }
    assert!(kill(child).await, "it ended by itself");
    database.discard().await;
}
