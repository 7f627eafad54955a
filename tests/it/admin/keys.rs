//! Keys by GraphQL.

use gateway::domain::key;
use serde_json::json;

use super::Bench;
use crate::support::database::on_each_database;

const CREATE: &str = "mutation ($input: CreateServiceKeyInput!) {
    createServiceKey(input: $input) {
        secret
        serviceKey { id prefix name sources isAdmin createdAt lastUsedAt revokedAt }
        userErrors { code reason field message }
        query { admin { serviceKeys(first: 1) { totalCount nodes { name } } } }
    }
}";

#[tokio::test]
async fn a_key_is_made_shown_once_and_revoked() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let input = json!({ "input": { "name": "scraper", "sources": ["WEB", "OTHER"] } });
        let made = bench.ask(CREATE, input).await["createServiceKey"].take();
        let secret = made["secret"].as_str().unwrap();
        let shown = key::verify(&bench.test.app, secret).await.unwrap().unwrap();
        assert_eq!(made["serviceKey"]["prefix"], shown.prefix.as_str());
        assert_eq!(made["serviceKey"]["sources"], json!(["WEB", "OTHER"]));
        assert_eq!(made["serviceKey"]["isAdmin"], false);
        assert_eq!(made["userErrors"], json!([]));
        let after = json!({ "totalCount": 2, "nodes": [{ "name": "scraper" }] });
        assert_eq!(made["query"]["admin"]["serviceKeys"], after);

        let list = "{ admin { serviceKeys(last: 2) { nodes { id name isAdmin lastUsedAt revokedAt } } } }";
        let listed = bench.ask(list, json!({})).await;
        assert!(!listed.to_string().contains(secret));
        let nodes = &listed["admin"]["serviceKeys"]["nodes"];
        assert!(nodes[0]["lastUsedAt"].is_string() && nodes[1]["isAdmin"] == true, "{nodes}");

        let revoke = "mutation ($id: ID!) { revokeServiceKey(input: { serviceKeyId: $id }) {
            serviceKey { revokedAt } userErrors { code }
        } }";
        let id = json!({ "id": made["serviceKey"]["id"] });
        let revoked = bench.ask(revoke, id.clone()).await;
        assert!(revoked["revokeServiceKey"]["serviceKey"]["revokedAt"].is_string());
        assert_eq!(key::verify(&bench.test.app, secret).await.unwrap(), None);
        assert_eq!(bench.ask(revoke, id.clone()).await, revoked, "once more changes nothing");
        let node = bench.ask("query ($id: ID!) { node(id: $id) { ... on ServiceKey { name } } }", id).await;
        assert_eq!(node["node"]["name"], "scraper");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_key_is_a_mistake_of_the_caller() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        for (input, field, reason) in [
            (json!({ "name": "", "sources": ["WEB"] }), "name", "KEY_NAME_INVALID"),
            (json!({ "name": "x" }), "sources", "KEY_SOURCES_INVALID"),
            (json!({ "name": "x", "isAdmin": true, "sources": ["OPENMEET"] }), "sources", "KEY_SOURCES_INVALID"),
        ] {
            let made = bench.ask(CREATE, json!({ "input": input })).await["createServiceKey"].take();
            assert_eq!((&made["secret"], &made["serviceKey"]), (&json!(null), &json!(null)));
            let mistake = &made["userErrors"][0];
            assert_eq!((&mistake["code"], &mistake["reason"]), (&json!("INVALID"), &json!(reason)), "{input}");
            assert_eq!(mistake["field"], json!(["input", field]));
        }
        let made = bench.ask(CREATE, json!({ "input": { "name": "an administrator", "isAdmin": true } })).await;
        let secret = made["createServiceKey"]["secret"].as_str().unwrap();
        let (_, answer) = bench.answer(Some(secret), "{ admin { serviceKeys { totalCount } } }", &json!({})).await;
        assert_eq!(answer["data"]["admin"]["serviceKeys"]["totalCount"], 2, "{answer}");
    })
    .await;
}
