//! Messages that were put aside: found, tried again, given up.

use serde_json::{Value, json};

use super::{Bench, event};
use crate::support::{
    database::on_each_database,
    records::{EVENT, did, uri},
};

const LIST: &str = "query ($first: Int, $after: String, $filter: IngestFailureFilter) {
    admin { ingestFailures(first: $first, after: $after, filter: $filter) {
        totalCount
        nodes { id stage code did uri attempts state }
        pageInfo { hasNextPage endCursor }
    } }
}";
const SHOW: &str = "query ($id: ID!) {
    admin { ingestFailure(id: $id) {
        state attempts reason firstFailedAt lastFailedAt resolvedAt
        payload { text length isTruncated }
        history { state stage code reason decidedBy at }
    } }
}";
const RETRY: &str = "mutation ($input: RetryIngestFailuresInput!) {
    retryIngestFailures(input: $input) {
        matchedCount
        results { outcome code message failure { id state attempts } }
        userErrors { code reason field }
    }
}";
const DISCARD: &str = "mutation ($input: DiscardIngestFailuresInput!) {
    discardIngestFailures(input: $input) {
        matchedCount
        results { outcome failure { id state } }
        userErrors { code reason field }
    }
}";

impl Bench {
    /// Five messages: two that are no JSON, three events without a name.
    async fn park(&self) {
        let lines = ["nonsense", "more nonsense"].map(str::to_owned).into_iter();
        let lines: Vec<String> = lines.chain((1..4).map(|person| event(person, 1, None))).collect();
        self.test.submit(&lines).await;
    }

    async fn found(&self, filter: Value) -> Vec<Value> {
        let found = self.ask(LIST, json!({ "filter": filter })).await["admin"]["ingestFailures"].take();
        assert_eq!(found["totalCount"], found["nodes"].as_array().unwrap().len(), "{found}");
        found["nodes"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn parked_messages_are_found_by_whatever_is_known_of_them() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.park().await;
        let named = uri(&did(9, 2), EVENT, "one");
        for (filter, count) in [
            (json!(null), 5),
            (json!({ "stage": ["RECEIVE"] }), 2),
            (json!({ "stage": ["MAP", "QUEUE"] }), 3),
            (json!({ "stage": [] }), 0),
            (json!({ "code": ["EVENT_NAME_MISSING"] }), 3),
            (json!({ "code": ["event_name_missing"] }), 0),
            (json!({ "did": did(9, 2) }), 1),
            (json!({ "uri": named }), 1),
            (json!({ "did": did(9, 2), "stage": ["RECEIVE"] }), 0),
            (json!({ "text": "more non" }), 1),
            (json!({ "text": "%_1" }), 3),
            (json!({ "text": "%_2" }), 0),
            (json!({ "state": ["PARKED", "DISCARDED"] }), 5),
            (json!({ "state": ["RESOLVED"] }), 0),
            (json!({ "failedAt": { "from": "2020-01-01T00:00:00Z" } }), 5),
            (json!({ "failedAt": { "to": "2020-01-01T00:00:00Z" } }), 0),
        ] {
            assert_eq!(bench.found(filter.clone()).await.len(), count, "{filter}");
        }
        let one = bench.found(json!({ "uri": named })).await.remove(0);
        assert_eq!((&one["stage"], &one["state"], &one["attempts"]), (&json!("MAP"), &json!("PARKED"), &json!(1)));

        let mut seen = Vec::new();
        let mut after = json!(null);
        loop {
            let page = bench.ask(LIST, json!({ "first": 2, "after": after })).await["admin"]["ingestFailures"].take();
            seen.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].to_string()));
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(seen.len(), 5);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);

        let counts = "{ admin { ingestFailureCounts { state stage code count } } }";
        let counts = bench.ask(counts, json!({})).await["admin"]["ingestFailureCounts"].take();
        let missing = json!({ "state": "PARKED", "stage": "MAP", "code": "EVENT_NAME_MISSING", "count": 3 });
        assert_eq!((counts.as_array().unwrap().len(), &counts[0]), (2, &missing), "{counts}");

        for (variables, reason) in [
            (json!({ "filter": { "text": "" } }), "TEXT_LENGTH_OUT_OF_RANGE"),
            (json!({ "filter": { "text": "x".repeat(201) } }), "TEXT_LENGTH_OUT_OF_RANGE"),
            (json!({ "first": 101 }), "PAGE_SIZE_OUT_OF_RANGE"),
            (json!({ "after": "x" }), "CURSOR_INVALID"),
        ] {
            let told = bench.refusal(LIST, variables.clone()).await;
            assert_eq!(told, ("BAD_USER_INPUT".to_owned(), json!(reason)), "{variables}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_is_tried_again_and_shows_its_history() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.park().await;
        let by = |person: usize| json!({ "did": did(9, person) });
        let id = bench.found(by(1)).await[0]["id"].clone();
        // What would be done, and nothing else.
        let input = json!({ "select": { "filter": by(1) }, "dryRun": true });
        let dry = bench.ask(RETRY, json!({ "input": input })).await["retryIngestFailures"].take();
        let untouched = json!({
            "outcome": "UNTOUCHED", "code": null, "message": null,
            "failure": { "id": id, "state": "PARKED", "attempts": 1 },
        });
        assert_eq!(dry, json!({ "matchedCount": 1, "results": [untouched], "userErrors": [] }));
        // It is as it was.
        let input = json!({ "input": { "select": { "filter": by(1) } } });
        let again = bench.ask(RETRY, input.clone()).await["retryIngestFailures"].take();
        assert_eq!(
            (&again["results"][0]["outcome"], &again["results"][0]["code"]),
            (&json!("PARKED"), &json!("EVENT_NAME_MISSING"))
        );
        assert_eq!(again["results"][0]["failure"]["attempts"], 2);
        // A later version can be read: the earlier one is overtaken.
        bench.test.submit(&[event(1, 2, Some("A name"))]).await;
        let again = bench.ask(RETRY, input).await["retryIngestFailures"].take();
        assert_eq!(again["results"][0]["outcome"], "RESOLVED", "{again}");
        assert_eq!(again["results"][0]["failure"]["state"], "RESOLVED");

        let shown = bench.ask(SHOW, json!({ "id": id })).await["admin"]["ingestFailure"].take();
        let payload = event(1, 1, None);
        let whole = json!({ "text": payload, "length": payload.len(), "isTruncated": false });
        assert_eq!((&shown["payload"], &shown["state"]), (&whole, &json!("RESOLVED")));
        let history = shown["history"].as_array().unwrap();
        let states: Vec<&str> = history.iter().map(|entry| entry["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["PARKED", "PARKED", "RESOLVED"]);
        let prefix = bench.key.rsplit_once('_').unwrap().0;
        assert_eq!((&history[0]["decidedBy"], &history[2]["decidedBy"]), (&json!(null), &json!(prefix)));
        let node = "query ($id: ID!) { node(id: $id) { ... on IngestFailure { state } } }";
        assert_eq!(bench.ask(node, json!({ "id": id })).await["node"]["state"], "RESOLVED");
        let (_, answer) = bench.answer(None, node, &json!({ "id": id })).await;
        assert_eq!(answer["data"]["node"], json!(null), "not for everybody");
    })
    .await;
}

#[tokio::test]
async fn messages_are_given_up_some_at_a_time_with_a_reason() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        bench.park().await;
        let input = json!({ "select": { "filter": {} }, "reason": "test data", "limit": 2 });
        let first = bench.ask(DISCARD, json!({ "input": input })).await["discardIngestFailures"].take();
        assert_eq!((&first["matchedCount"], first["results"].as_array().unwrap().len()), (&json!(5), 2));
        assert!(first["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "DISCARDED"));
        assert_eq!(
            (bench.found(json!({})).await.len(), bench.found(json!({ "state": "DISCARDED" })).await.len()),
            (3, 2)
        );
        // The same message again stays given up.
        bench.park().await;
        assert_eq!(bench.found(json!({ "state": "DISCARDED" })).await.len(), 2);

        let (gone, there) =
            (first["results"][0]["failure"]["id"].clone(), bench.found(json!({})).await[0]["id"].clone());
        let ids = json!({ "select": { "ids": [there, gone] }, "reason": "by hand" });
        let second = bench.ask(DISCARD, json!({ "input": ids })).await["discardIngestFailures"].take();
        assert_eq!(second["results"].as_array().unwrap().len(), 1);
        let mistake =
            json!({ "code": "WRONG_STATE", "reason": "NOT_PARKED", "field": ["input", "select", "ids", "1"] });
        assert_eq!(second["userErrors"], json!([mistake]));
        let shown = bench.ask(SHOW, json!({ "id": there })).await;
        let history = shown["admin"]["ingestFailure"]["history"].as_array().unwrap();
        assert_eq!(history.last().unwrap()["reason"], "by hand");

        let many: Vec<Value> = std::iter::repeat_n(there, 101).collect();
        for (select, limit, reason) in [
            (json!({ "ids": many }), 1, "TOO_MANY_VALUES"),
            (json!({ "filter": {} }), 101, "LIMIT_OUT_OF_RANGE"),
            (json!({ "filter": {} }), 0, "LIMIT_OUT_OF_RANGE"),
            (json!({ "ids": ["nonsense"] }), 1, "ID_MALFORMED"),
        ] {
            let input = json!({ "input": { "select": select, "reason": "", "limit": limit } });
            let told = bench.ask(DISCARD, input).await["discardIngestFailures"].take();
            assert_eq!((&told["userErrors"][0]["reason"], &told["results"]), (&json!(reason), &json!([])), "{told}");
        }
        let input = json!({ "input": { "select": { "filter": {} }, "reason": "x".repeat(501) } });
        let told = bench.ask(DISCARD, input).await["discardIngestFailures"].take();
        assert_eq!(told["userErrors"][0]["reason"], "REASON_TOO_LONG", "{told}");
        assert_eq!(bench.found(json!({})).await.len(), 2);
    })
    .await;
}
