//! Stage 9: after the commit, those who wait are told. It cannot fail the message: what is not told here is found by the
//! readers' own polling.

use metrics::counter;

use super::s8_persist::{Effect, Persisted};
use crate::app::App;

pub(super) fn notify(app: &App, persisted: Persisted) {
    if persisted.changes > 0 {
        app.changes.ring();
    }
    for (novelty, count) in persisted.novelties {
        counter!("gateway_ingest_records_total", "novelty" => novelty).increment(count);
    }
    for effect in &persisted.effects {
        let outcome = match effect {
            Effect::Applied => "applied",
            Effect::Unchanged => "unchanged",
            Effect::Parked(parked) => {
                counter!("gateway_ingest_parked_total", "stage" => parked.stage.as_str(), "code" => parked.code)
                    .increment(1);
                "parked"
            }
        };
        counter!("gateway_ingest_messages_total", "outcome" => outcome).increment(1);
    }
    counter!("gateway_shadow_accounts_created_total").increment(persisted.shadows);
    counter!("gateway_event_changes_total").increment(persisted.changes);
}
