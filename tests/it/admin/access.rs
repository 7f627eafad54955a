//! Who may do what.

use std::collections::BTreeSet;

use async_graphql::parser::{
    parse_schema,
    types::{TypeKind, TypeSystemDefinition},
};
use axum::http::StatusCode;
use entities::tenant;
use gateway::{
    api::graphql::sdl,
    domain::{
        actor::Actor,
        key::{self, Named, SOURCES, Wanted},
    },
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
};
use serde_json::{Value, json};

use super::Bench;
use crate::support::database::on_each_database;

/// Each field that not everybody may use, used.
const USES: [(&str, &str); 10] = [
    ("Query.admin", "{ admin { __typename } }"),
    (
        "Mutation.retryIngestFailures",
        "mutation { retryIngestFailures(input: { select: { ids: [] } }) { matchedCount } }",
    ),
    (
        "Mutation.discardIngestFailures",
        r#"mutation { discardIngestFailures(input: { select: { ids: [] }, reason: "" }) { matchedCount } }"#,
    ),
    ("Mutation.createServiceKey", r#"mutation { createServiceKey(input: { name: "x", isAdmin: true }) { secret } }"#),
    (
        "Mutation.revokeServiceKey",
        r#"mutation { revokeServiceKey(input: { serviceKeyId: "a2V5OjE" }) { __typename } }"#,
    ),
    (
        "Mutation.ingestEvents",
        r#"mutation { ingestEvents(input: { events: [{ name: "x", source: { type: WEB, id: "x" } }] }) { __typename } }"#,
    ),
    (
        "Mutation.ingestRsvps",
        r#"mutation { ingestRsvps(input: { rsvps: [{ eventSourceId: "x", eventSourceType: WEB, userDid: "x", status: MAYBE }] }) {
            __typename
        } }"#,
    ),
    (
        "Mutation.deleteIngestedEvent",
        r#"mutation { deleteIngestedEvent(input: { sourceType: WEB, sourceId: "x" }) { __typename } }"#,
    ),
    (
        "Mutation.deleteIngestedRsvp",
        r#"mutation { deleteIngestedRsvp(input: { sourceType: WEB, sourceId: "x" }) { __typename } }"#,
    ),
    ("Subscription.ingestFailureChanged", "subscription { ingestFailureChanged { cursor } }"),
];

/// The first error of an answer, in whatever form it came.
async fn first_error(bench: &Bench, key: Option<&str>, name: &str, document: &str) -> (StatusCode, Value) {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let accept = if name.starts_with("Subscription.") { "text/event-stream" } else { "application/json" };
    let (status, text) = bench.send(bearer.as_deref(), accept, document, &json!({})).await;
    let text = text.strip_prefix("event: next\ndata: ").and_then(|text| text.split('\n').next()).unwrap_or(&text);
    let answer: Value = serde_json::from_str(text).unwrap();
    (status, answer["errors"][0]["extensions"]["code"].clone())
}

#[tokio::test]
async fn what_needs_the_right_is_refused_without_it() {
    let mut marked = BTreeSet::new();
    for definition in parse_schema(sdl()).unwrap().definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let TypeKind::Object(object) = &definition.node.kind else { continue };
        for field in &object.fields {
            if field.node.directives.iter().any(|directive| directive.node.name.node == "access") {
                marked.insert(format!("{}.{}", definition.node.name.node, field.node.name.node));
            }
        }
    }
    assert_eq!(marked, USES.iter().map(|(name, _)| (*name).to_owned()).collect());
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let plain = bench.test.key(&SOURCES, false).await;
        for (name, document) in USES {
            assert_eq!(first_error(&bench, None, name, document).await.1, "UNAUTHENTICATED", "{name}");
            assert_eq!(first_error(&bench, Some(&plain), name, document).await.1, "FORBIDDEN", "{name}");
        }
        let rows = key::list(&bench.test.app, &Actor::Operator).await.unwrap();
        assert_eq!(rows.len(), 2, "nobody made a key");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_open_is_refused_whatever_is_asked() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let document = "{ serviceInfo { version } }";
        let revoked = bench.test.key(&SOURCES, true).await;
        let (status, _) = bench.answer(Some(&revoked), document, &json!({})).await;
        assert_eq!(status, StatusCode::OK);
        key::revoke(&bench.test.app, &Actor::Operator, Named::Text(&revoked)).await.unwrap();
        let good = &bench.key;
        let mut forged = good.clone();
        forged.replace_range(good.len() - 1.., if good.ends_with('a') { "b" } else { "a" });
        let shown =
            [&format!("Bearer {revoked}"), &format!("Bearer {forged}"), "Bearer", "", "Basic eDp5", good.as_str()];
        for shown in shown {
            let (status, text) = bench.send(Some(shown), "application/json", document, &json!({})).await;
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{shown}: {answer}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{shown}");
            assert!(answer.get("data").is_none() && !text.contains("omk_"), "{answer}");
        }
        let (_, text) = bench.send(Some(&format!("bearer  {good}")), "application/json", document, &json!({})).await;
        assert!(text.contains("version"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_administrator_of_another_tenant_has_its_keys_and_nothing_else() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        let now = app.clock.now();
        let other = tenant::ActiveModel {
            id: NotSet,
            slug: Set("other".into()),
            name: Set("Other".into()),
            created_at: Set(now),
        };
        let other = &other;
        app.db.transact(|tx| async move { Ok(other.clone().insert(&*tx).await?) }).await.unwrap();
        let wanted =
            Wanted { name: "theirs".into(), tenants: vec!["other".into()], sources: Vec::new(), is_admin: true };
        let theirs = key::create(app, &Actor::Operator, &wanted).await.unwrap();
        let ask =
            async |document: &str, variables: Value| bench.answer(Some(&theirs.text), document, &variables).await.1;
        let keys = ask("{ admin { serviceKeys { totalCount nodes { id name } } } }", json!({})).await;
        let keys = &keys["data"]["admin"]["serviceKeys"];
        assert_eq!((&keys["totalCount"], &keys["nodes"][0]["name"]), (&json!(1), &json!("theirs")));
        for document in [
            "{ admin { ingestFailures { totalCount } } }",
            "{ admin { ingestFailureCounts { count } } }",
            "mutation { retryIngestFailures(input: { select: { ids: [] } }) { matchedCount } }",
        ] {
            let answer = ask(document, json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        }
        // A key of the first tenant is not there for it.
        let ours = bench.ask("{ admin { serviceKeys { nodes { id } } } }", json!({})).await;
        let id = &ours["admin"]["serviceKeys"]["nodes"][0]["id"];
        let revoke = "mutation ($id: ID!) {
            revokeServiceKey(input: { serviceKeyId: $id }) { serviceKey { id } userErrors { code } }
        }";
        let answer = ask(revoke, json!({ "id": id })).await;
        assert_eq!(answer["data"]["revokeServiceKey"]["userErrors"][0]["code"], "NOT_FOUND", "{answer}");
        assert_eq!(
            ask("query ($id: ID!) { node(id: $id) { id } }", json!({ "id": id })).await["data"]["node"],
            json!(null)
        );
        assert!(key::verify(app, &bench.key).await.unwrap().is_some());
    })
    .await;
}
