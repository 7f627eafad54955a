//! What each metric means: the HELP lines of `/metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

const COUNTERS: &[(&str, &str)] = &[
    ("gateway_event_changes_total", "Changes of events that were written to the change log"),
    ("gateway_feed_failures_total", "Failed attempts to read the change log for subscriptions"),
    ("gateway_feed_lags_total", "Subscribers that fell behind the changes in memory and went back to the log"),
    ("gateway_ingest_messages_total", "Messages that went through the pipeline, by what became of them"),
    ("gateway_ingest_parked_total", "Messages that were put aside, by stage and reason"),
    ("gateway_ingest_records_total", "Records by what they were to the ledger, such as new, newer or older"),
    ("gateway_outbound_requests_total", "Requests to hosts of the network, by kind of host and outcome"),
    ("gateway_queue_published_total", "Messages handed to a queue"),
    ("gateway_redis_failures_total", "Commands that Redis did not carry out"),
    ("gateway_resyncs_total", "Requests to read a repository again, by what became of them"),
    ("gateway_shadow_accounts_created_total", "Shadow accounts made for authors of records"),
    ("gateway_stream_frames_total", "Messages received from streams, by kind"),
    ("gateway_stream_gaps_total", "Times that a stream may have left something out"),
    ("gateway_stream_reconnects_total", "Connections to streams that were lost or could not be made"),
    ("gateway_stream_resyncs_total", "Commits of a stream that have to be read from the repository instead, by reason"),
    ("gateway_stream_undecodable_total", "Messages of streams that could not be read and were passed over"),
];

const GAUGES: &[(&str, &str)] = &[
    ("gateway_http_connections", "Open HTTP connections, WebSockets left out"),
    ("gateway_queue_dead_letters", "Messages of a broker that nobody could process and that wait for a person"),
    ("gateway_queue_messages", "Messages in a queue that are not done"),
    ("gateway_queue_oldest_seconds", "Age of the oldest message in a queue that is not done"),
    ("gateway_redis_up", "Whether Redis was reached when last tried: 1 or 0"),
    ("gateway_stream_cursor", "Position up to which a stream is safe in the queue"),
    ("gateway_stream_lag_seconds", "Age of the newest message of a stream when it came"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("gateway_ingest_batch_seconds", "Time from a batch's receipt to its acknowledgement"),
    ("gateway_outbound_duration_seconds", "Time that a request to a host of the network took"),
];

/// Describes the metrics to the recorder that counts.
pub fn describe() {
    for (name, text) in COUNTERS {
        describe_counter!(*name, *text);
    }
    for (name, text) in GAUGES {
        describe_gauge!(*name, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *text);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn sources(folder: &Path, texts: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("telemetry.rs") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }

    /// Names that such a call holds as text; those of GraphQL are constants with descriptions beside them.
    fn named_in(call: &str) -> BTreeSet<String> {
        let mut texts = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        let mut names = BTreeSet::new();
        for text in texts {
            for (at, _) in text.match_indices(call).filter(|(at, _)| !text[..*at].ends_with('_')) {
                let rest = text[at + call.len()..].trim_start();
                names.extend(rest.strip_prefix('"').and_then(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
        names
    }

    #[test]
    fn every_metric_is_described_and_every_description_is_of_one() {
        for (macro_name, described) in [("counter", COUNTERS), ("gauge", GAUGES), ("histogram", HISTOGRAMS)] {
            let described: BTreeSet<_> = described.iter().map(|(name, _)| (*name).to_owned()).collect();
            let elsewhere = named_in(&format!("describe_{macro_name}!("));
            let counted = named_in(&format!("{macro_name}!("));
            assert!(!counted.is_empty(), "no {macro_name} at all");
            let bare: Vec<_> = counted.difference(&described).filter(|name| !elsewhere.contains(*name)).collect();
            assert!(bare.is_empty(), "a {macro_name} without a description: {bare:?}");
            let idle: Vec<_> = described.difference(&counted).collect();
            assert!(idle.is_empty(), "the description of no {macro_name}: {idle:?}");
        }
    }
}
