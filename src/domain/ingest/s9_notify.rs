//! Stage 9: after the commit, those who wait are told. It cannot fail the message: what is not told here is found by the
//! readers' own polling.

use metrics::counter;

use super::s8_persist::{Effect, Persisted};
use crate::{app::App, infra::kv::Topic};

/// `operations` is what each message asked for.
pub(super) fn notify(app: &App, persisted: Persisted, operations: &[&'static str]) {
    if persisted.changes > 0 {
        app.changes.ring();
    }
    for (effect, operation) in persisted.effects.iter().zip(operations) {
        count(operation, effect);
    }
    if persisted.effects.iter().any(|effect| matches!(effect, Effect::Parked(_))) {
        app.kv.bell(Topic::Failures).ring();
    }
    for (novelty, count) in persisted.novelties {
        counter!("gateway_ingest_records_total", "novelty" => novelty).increment(count);
    }
    for (method, count) in persisted.matches {
        counter!("gateway_dedupe_matches_total", "method" => method).increment(count);
    }
    for (outcome, count) in persisted.answers {
        counter!("gateway_rsvp_outcomes_total", "outcome" => outcome).increment(count);
    }
    counter!("gateway_shadow_accounts_created_total").increment(persisted.shadows);
    counter!("gateway_event_changes_total").increment(persisted.changes);
}

/// Counts a message that is done.
pub(super) fn count(operation: &'static str, effect: &Effect) {
    let outcome = match effect {
        Effect::Applied { .. } => "applied",
        Effect::Unchanged => "unchanged",
        Effect::Parked(parked) => {
            counter!("gateway_ingest_parked_total", "stage" => parked.stage.as_str(), "code" => parked.code)
                .increment(1);
            "parked"
        }
    };
    counter!("gateway_ingest_messages_total", "operation" => operation, "outcome" => outcome).increment(1);
}

/// Counts a message that the database refused, which is not the end of it.
pub(super) fn count_refused(operation: &'static str) {
    counter!("gateway_ingest_messages_total", "operation" => operation, "outcome" => "refused").increment(1);
}
