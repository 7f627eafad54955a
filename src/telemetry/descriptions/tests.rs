//! What is declared is what is counted: names, labels, and the values of labels.

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

fn names<'a>(described: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    described.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_metric_is_described_and_every_description_is_of_one() {
    let counters = COUNTERS.iter().chain(OPEN_COUNTERS).map(|(name, ..)| *name);
    let gauges = GAUGES.iter().map(|(name, _)| *name);
    let histograms = HISTOGRAMS.iter().map(|(name, _)| *name);
    for (macro_name, described) in
        [("counter", names(counters)), ("gauge", names(gauges)), ("histogram", names(histograms))]
    {
        let elsewhere = named_in(&format!("describe_{macro_name}!("));
        let counted = named_in(&format!("{macro_name}!("));
        assert!(!counted.is_empty(), "no {macro_name} at all");
        let bare: Vec<_> = counted.difference(&described).filter(|name| !elsewhere.contains(*name)).collect();
        assert!(bare.is_empty(), "a {macro_name} without a description: {bare:?}");
        let idle: Vec<_> = described.difference(&counted).collect();
        assert!(idle.is_empty(), "the description of no {macro_name}: {idle:?}");
    }
}

/// Labels of a call, which ends with its parenthesis.
fn labels_of(call: &str) -> BTreeSet<String> {
    let mut depth = 0_usize;
    let end = call.find(|c| {
        depth += usize::from(c == '(');
        let is_end = c == ')' && depth == 0;
        depth -= usize::from(c == ')' && depth > 0);
        is_end
    });
    let parts: Vec<_> = call[..end.unwrap_or(0)].split(" =>").collect();
    let ahead = parts.iter().take(parts.len() - 1);
    ahead.filter_map(|part| part.trim_end().strip_suffix('"')?.rsplit('"').next()).map(str::to_owned).collect()
}

#[test]
fn counters_are_counted_with_the_labels_that_they_begin_with() {
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    for (name, _, labels) in COUNTERS {
        let expected = names(labels.iter().map(|(label, _)| *label));
        for text in &texts {
            for (at, found) in text.match_indices(&format!("counter!(\"{name}\"")) {
                assert_eq!(labels_of(&text[at + found.len()..]), expected, "{name}");
            }
        }
    }
}

/// A part of the code that decides a value: in this file, each stretch between these two texts.
type Stretch = (&'static str, &'static str, &'static str);

/// Where the values of each label are decided. Whoever decides one elsewhere adds the place.
const DECIDED: &[(&str, &str, &[Stretch])] = &[
    (
        "gateway_circuit_openings_total",
        "dependency",
        &[
            ("src/infra/resilience/circuit.rs", "fn as_str(", "\n    }"),
            ("src/infra/atproto/oauth/server.rs", "SERVICE: &str =", ";"),
            ("src/infra/atproto/oauth/call.rs", "SERVICE: &str =", ";"),
            ("src/infra/atproto/pds.rs", "SERVICE: &str =", ";"),
            ("src/infra/atproto/appview.rs", "SERVICE: &str =", ";"),
            ("src/infra/atproto/relay.rs", "outbound.get(", ","),
            ("src/infra/atproto/identity.rs", "self.read(", ","),
            ("src/infra/atproto/identity.rs", "outbound.send(", ","),
            ("src/infra/atproto/identity.rs", "Some((", ","),
            ("src/domain/login/identifier.rs", "outbound.get(", ","),
        ],
    ),
    (
        "gateway_dedupe_matches_total",
        "method",
        &[
            ("entities/src/sets.rs", "    MatchMethod {", "\n    }"),
            ("src/domain/ingest/s8_persist/mod.rs", "persisted.matches.entry(", ")"),
        ],
    ),
    (
        "gateway_ingest_messages_total",
        "operation",
        &[
            ("src/domain/ingest/s2_identify.rs", "fn operation(", "\n    }"),
            ("src/domain/ingest/pipeline.rs", "message.as_ref().map_or(", ","),
            ("src/domain/ingest/pipeline.rs", "s9_notify::count(", ","),
        ],
    ),
    (
        "gateway_ingest_messages_total",
        "outcome",
        &[
            ("src/domain/ingest/s9_notify.rs", "=> \"", ","),
            ("src/domain/ingest/s9_notify.rs", "increment(1);\n            ", "\n"),
        ],
    ),
    (
        "gateway_ingest_records_total",
        "novelty",
        &[
            ("src/domain/ingest/s5_dedupe.rs", "fn as_str(", "\n    }"),
            ("src/domain/ingest/s8_persist/mod.rs", "novelties.entry(", ")"),
            ("src/domain/ingest/s8_persist/mod.rs", "const KNOWN: &str =", ";"),
        ],
    ),
    ("gateway_outbound_requests_total", "outcome", &[("src/infra/http.rs", "let outcome = match &result", "};")]),
    (
        "gateway_profiles_total",
        "outcome",
        &[
            ("src/domain/profile/keep.rs", "outcome = \"", ";"),
            ("src/domain/profile/keep.rs", "let outcome = match &kept", "};"),
        ],
    ),
    ("gateway_queue_published_total", "topic", &[("src/infra/queue/mod.rs", "fn as_str(", "\n    }")]),
    (
        "gateway_resyncs_total",
        "outcome",
        &[
            ("src/roles/process/repositories.rs", "async fn judge(", "\n    }"),
            ("src/roles/process/repositories.rs", "fn failed(", "\n    }"),
        ],
    ),
    (
        "gateway_rsvp_outcomes_total",
        "outcome",
        &[("src/domain/ingest/s8_persist/answers.rs", "self.count_answers(", ",")],
    ),
    ("gateway_session_renewals_total", "outcome", &[("src/infra/atproto/oauth/refresh.rs", "fn counted(", "};")]),
    ("gateway_sign_ins_total", "step", &[("src/domain/login/count.rs", "let step =", "};")]),
    ("gateway_sign_ins_total", "outcome", &[("src/domain/login/count.rs", "fn outcome(", "\n}")]),
    (
        "gateway_stream_frames_total",
        "kind",
        &[
            ("src/infra/atproto/jetstream.rs", "reading.kind =", ";"),
            ("src/infra/atproto/jetstream.rs", "Reading::of(", ")"),
            ("src/infra/atproto/firehose.rs", "Reading::of(", ")"),
            ("src/infra/atproto/firehose.rs", "lines.reading(", ")"),
            ("src/infra/atproto/firehose.rs", "let kind =", ";"),
            ("src/infra/atproto/stream/session.rs", "Reading::of(", ")"),
        ],
    ),
    (
        "gateway_stream_resyncs_total",
        "reason",
        &[
            ("src/infra/atproto/firehose.rs", "lines.resync(", ";"),
            ("src/infra/atproto/firehose.rs", "let reason =", ";"),
        ],
    ),
    ("gateway_trace_exports_total", "outcome", &[("src/telemetry/traces.rs", "let label =", ";")]),
];

/// The words that stretches hold as text: what may be a value, and no code nor sentence.
fn decided(stretches: &[Stretch]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (path, from, to) in stretches {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        assert!(code.contains(from), "{path} has no `{from}` any more");
        for stretch in code.split(from).skip(1) {
            // Some begin within a text.
            let opened = if from.ends_with('"') { "\"" } else { "" };
            let stretch = format!("{opened}{}", stretch.split(to).next().unwrap_or_default());
            let texts = stretch.split('"').skip(1).step_by(2);
            let is_value = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            words.extend(texts.filter(is_value).map(str::to_owned));
        }
    }
    words
}

#[test]
fn labels_have_the_values_that_the_code_gives_them() {
    let declared = |counter: &str, label: &str| {
        let labels =
            COUNTERS.iter().find(|(name, ..)| *name == counter).map(|(.., labels)| *labels).unwrap_or_default();
        names(labels.iter().filter(|(name, _)| *name == label).flat_map(|(_, values)| values.iter().copied()))
    };
    for (counter, label, stretches) in DECIDED {
        assert_eq!(declared(counter, label), decided(stretches), "{counter}, {label}");
    }
    // Our own servers are asked by clients of their own.
    let hosts = names(DEPENDENCIES[3..].iter().copied());
    assert_eq!(declared("gateway_outbound_requests_total", "service"), hosts);
    for (counter, _, labels) in COUNTERS {
        for (label, _) in *labels {
            let is_known = DECIDED.iter().any(|(name, known, _)| name == counter && known == label);
            assert!(is_known || *label == "service", "nobody knows where {label} of {counter} is decided");
        }
    }
}

#[test]
fn every_combination_is_made() {
    assert_eq!(combinations(&[]).len(), 1);
    let made = combinations(&[("a", &["1", "2"]), ("b", &["3", "4", "5"])]);
    assert_eq!(made.len(), 6);
    assert!(made.iter().all(|labels| labels[0].key() == "a" && labels[1].key() == "b"));
}
