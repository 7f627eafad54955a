//! What each metric means: the HELP lines of `/metrics`.

#[cfg(test)]
mod tests;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Labels with all the values that each may have.
type Labels = &'static [(&'static str, &'static [&'static str])];

/// What is away, or fails: our own servers, then kinds of hosts of the network.
const DEPENDENCIES: &[&str] =
    &["database", "broker", "redis", "appview", "pds", "plc", "plc_mirror", "did_web", "handle", "relay", "oauth"];
/// Kinds of hosts of the network.
const SERVICES: &[&str] = &["appview", "pds", "plc", "plc_mirror", "did_web", "handle", "relay", "oauth"];
const TOPICS: &[&str] = &["records", "resyncs"];

/// Counters with their labels. Each begins with 0, for all values of its labels, so that the first increment is seen as one.
const COUNTERS: &[(&str, &str, Labels)] = &[
    (
        "gateway_circuit_openings_total",
        "Times that something failed so often, or asked for it, that it was left alone for a while",
        &[("dependency", DEPENDENCIES)],
    ),
    (
        "gateway_dedupe_matches_total",
        "Records that told of an event that was known already, by how that was found",
        &[("method", &["at_uri", "source_id", "source_url", "link_back", "fingerprint"])],
    ),
    ("gateway_event_changes_total", "Changes of events that were written to the change log", &[]),
    ("gateway_feed_failures_total", "Failed attempts to read the change log for subscriptions", &[]),
    ("gateway_feed_lags_total", "Subscribers that fell behind the changes in memory and went back to the log", &[]),
    (
        "gateway_ingest_messages_total",
        "Messages that went through the pipeline, by what they asked for and what became of them",
        &[
            (
                "operation",
                &["create", "update", "delete", "claim", "identity", "profile", "account", "other", "unknown"],
            ),
            ("outcome", &["applied", "unchanged", "parked", "refused"]),
        ],
    ),
    (
        "gateway_ingest_records_total",
        "Records by what they were to the ledger, such as new, newer or older",
        &[("novelty", &["new", "newer", "echo", "reread", "unreadable", "same", "older", "known", "purged"])],
    ),
    (
        "gateway_outbound_requests_total",
        "Requests to hosts of the network, by kind of host and outcome",
        &[
            ("service", SERVICES),
            ("outcome", &["success", "client_error", "server_error", "rate_limited", "refused", "resting", "failure"]),
        ],
    ),
    (
        "gateway_profiles_total",
        "Profiles of the network that were asked for, by whether they were at hand",
        &[("outcome", &["kept", "stale", "fetched", "failure"])],
    ),
    ("gateway_queue_published_total", "Messages handed to a queue", &[("topic", TOPICS)]),
    ("gateway_redis_failures_total", "Commands that Redis did not carry out", &[]),
    (
        "gateway_resyncs_total",
        "Requests to read a repository again, by what became of them",
        &[("outcome", &["done", "retried", "parked", "released"])],
    ),
    (
        "gateway_rsvp_outcomes_total",
        "What became of answers: waiting ones have come before their event",
        &[("outcome", &["created", "changed", "removed", "waiting"])],
    ),
    (
        "gateway_session_renewals_total",
        "Sessions at PDSes that were renewed, by outcome: ended ones need a new sign-in",
        &[("outcome", &["success", "ended", "upstream", "failure"])],
    ),
    ("gateway_shadow_accounts_created_total", "Shadow accounts made for authors of records", &[]),
    (
        "gateway_sign_ins_total",
        "Sign-ins that were begun, and that came back and were finished, by outcome",
        &[
            ("step", &["begun", "finished"]),
            ("outcome", &["success", "refused", "declined", "rate_limited", "upstream", "failure"]),
        ],
    ),
    (
        "gateway_stream_frames_total",
        "Messages received from streams, by kind",
        &[(
            "kind",
            &["commit", "unwanted", "identity", "account", "sync", "stale", "info", "error", "other", "undecodable"],
        )],
    ),
    ("gateway_stream_gaps_total", "Times that a stream may have left something out", &[]),
    ("gateway_stream_reconnects_total", "Connections to streams that were lost or could not be made", &[]),
    (
        "gateway_stream_resyncs_total",
        "Commits of a stream that have to be read from the repository instead, by reason",
        &[("reason", &["sync", "too_big", "gap", "missing_block", "undecodable"])],
    ),
    ("gateway_stream_undecodable_total", "Messages of streams that could not be read and were passed over", &[]),
    (
        "gateway_trace_exports_total",
        "Batches of spans for the collector, by outcome; those that failed are lost",
        &[("outcome", &["success", "failure"])],
    ),
];

/// Counters whose codes are declared where they arise, too many to begin with 0; and the labels with which they do, since
/// a single one is worth an alert.
const OPEN_COUNTERS: &[(&str, &str, Labels)] = &[(
    "gateway_ingest_parked_total",
    "Messages that were put aside, by stage and reason",
    &[("stage", &["queue"]), ("code", &["MESSAGE_POISONOUS", "MESSAGE_UNREADABLE"])],
)];

const GAUGES: &[(&str, &str)] = &[
    ("gateway_circuit_hosts", "Hosts of the network that are left alone, as of the last request to any"),
    (
        "gateway_circuit_state",
        "Whether one of our servers is asked: 0 yes (closed), 1 by one that tries (half-open), 2 no (open)",
    ),
    ("gateway_http_connections", "Open HTTP connections, WebSockets left out"),
    ("gateway_leader", "Whether this process is the one that does a work that only one may: 1 or 0; sweep or backfill"),
    ("gateway_parked_messages", "Messages that were put aside and wait for a person"),
    ("gateway_queue_dead_letters", "Messages that nobody could process and that are not in the failure list yet"),
    (
        "gateway_queue_held_messages",
        "Messages of the broker in the hands of this process, which come on top of the queue's",
    ),
    (
        "gateway_queue_messages",
        "Messages in a queue that are not done and in nobody's hands, or in a table; of RabbitMQ, up to 64 may count as one",
    ),
    ("gateway_queue_oldest_seconds", "Age of the oldest message in a queue that is not done and waits for no retry"),
    ("gateway_ready", "Whether a server that is needed, or would be of use, can be reached: 1 or 0"),
    ("gateway_sessions", "Sessions of people at the gateway that are open"),
    ("gateway_stream_cursor", "Position up to which a stream is safe in the queue"),
    ("gateway_stream_cursor_age_seconds", "Time since the position of any stream was last saved"),
    ("gateway_stream_lag_seconds", "Age of the newest message of a stream when it came"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("gateway_ingest_batch_seconds", "Time from a batch's receipt to its acknowledgement"),
    ("gateway_ingest_stage_seconds", "Time that a batch spends in a stage of the pipeline"),
    ("gateway_outbound_duration_seconds", "Time that a request to a host of the network took"),
];

/// Describes the metrics to the recorder that counts, and lets counters begin.
pub fn describe() {
    for (name, text, labels) in COUNTERS.iter().chain(OPEN_COUNTERS) {
        describe_counter!(*name, *text);
        for labels in combinations(labels) {
            counter!(*name, labels).increment(0);
        }
    }
    for (name, text) in GAUGES {
        describe_gauge!(*name, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *text);
    }
}

/// Each combination of values.
fn combinations(labels: Labels) -> Vec<Vec<Label>> {
    labels.iter().fold(vec![Vec::new()], |begun, (name, values)| {
        let extended = |before: &Vec<Label>| {
            values
                .iter()
                .map(|value| [before.as_slice(), &[Label::from_static_parts(name, value)]].concat())
                .collect::<Vec<_>>()
        };
        begun.iter().flat_map(extended).collect()
    })
}
