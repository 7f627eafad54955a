//! What administrators ask, over as many messages as a long outage of somebody else puts aside.

use serde_json::{Value, json};

use super::Asked;

/// Of five thousand people, for forty reasons; a fifth of them decided about.
pub(super) const FILL: [&str; 2] = [
    "INSERT INTO ingest_failure (payload_hash, payload, did, uri, stage, code, reason, attempts, state, first_failed_at,
        last_failed_at, resolved_at)
    SELECT md5(n::text), repeat('of no use ', 30) || n, did, 'at://' || did || '/community.lexicon.calendar.event/' || n,
        (array['map', 'fetch', 'queue', 'receive'])[1 + n % 4], 'REASON_' || n % 40, 'it was so', 1,
        CASE n % 10 WHEN 0 THEN 'resolved' WHEN 1 THEN 'discarded' ELSE 'parked' END, at, at,
        CASE WHEN n % 10 < 2 THEN now() END
    FROM (SELECT n, 'did:plc:' || left(translate(md5((n % 5000)::text), '0189', 'wxyz'), 24) AS did,
        timestamptz '2026-01-01' + n * 7919::bigint % 100000 * interval '1 min' AS at
        FROM generate_series(1, 100000) AS n) AS made",
    "INSERT INTO ingest_failure_log (failure_id, state, stage, code, reason, at)
    SELECT f.id, s.state, f.stage, f.code, f.reason, f.first_failed_at
    FROM ingest_failure AS f, (VALUES ('parked'), ('resolved')) AS s (state) WHERE s.state IN ('parked', f.state)",
];

const LIST: &str = "query($f: IngestFailureFilter) { admin {
    ingestFailures(first: 10, filter: $f) { nodes { code payload { length } history { state } } pageInfo { endCursor } }
    back: ingestFailures(last: 10, filter: $f) { nodes { id } } } }";
const COUNT: &str = "query($f: IngestFailureFilter) { admin { ingestFailures(filter: $f) { totalCount } } }";
const KINDS: &str = "query($f: IngestFailureFilter) { admin { ingestFailureCounts(filter: $f) { code count } } }";
const RETRY: &str = "mutation($f: IngestFailureFilter!) {
    retryIngestFailures(input: { select: { filter: $f }, dryRun: true }) { matchedCount results { outcome } } }";
const KEYS: &str = "query { admin { serviceKeys { totalCount nodes { id } } } }";

/// The text in a payload is left out: who looks for that has everything read, and pays for it. So does who counts the kinds of
/// all that waits, which is most of the table here.
pub(super) fn asked() -> Vec<Asked> {
    let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    let filters = [
        json!({}),
        json!({ "state": ["RESOLVED"] }),
        json!({ "state": ["PARKED", "RESOLVED", "DISCARDED"] }),
        json!({ "stage": ["MAP"] }),
        json!({ "stage": ["PERSIST"] }),
        json!({ "stage": ["QUEUE"], "code": ["REASON_2"] }),
        json!({ "code": ["REASON_7"] }),
        json!({ "code": ["REASON_7", "REASON_11"], "state": ["DISCARDED"] }),
        json!({ "code": ["NONE"] }),
        json!({ "did": did }),
        json!({ "uri": format!("at://{did}/community.lexicon.calendar.event/1") }),
        json!({ "failedAt": { "from": "2026-03-01T00:00:00Z" } }),
        json!({ "failedAt": { "to": "2020-01-01T00:00:00Z" } }),
    ];
    let mut asked: Vec<Asked> = vec![("serviceKeys".to_owned(), KEYS.to_owned(), json!({}))];
    for filter in filters {
        for (name, document) in
            [("failures", LIST), ("count failures", COUNT), ("kinds of failures", KINDS), ("retry", RETRY)]
        {
            let is_of_most = [json!({}), json!({ "state": ["PARKED", "RESOLVED", "DISCARDED"] })].contains(&filter);
            if document == KINDS && is_of_most {
                continue;
            }
            let variables: Value = json!({ "f": filter });
            asked.push((name.to_owned(), document.to_owned(), variables));
        }
    }
    asked
}
