//! How sign-ins end, for metrics.

use metrics::counter;

use crate::error::Error;

/// How far somebody has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// To be sent to the authorization server.
    Begun,
    /// Back, and in.
    Finished,
}

/// Counts a step that went well, or ended in this error.
pub(super) fn count(step: Step, error: Option<&Error>) {
    let step = match step {
        Step::Begun => "begun",
        Step::Finished => "finished",
    };
    counter!("gateway_sign_ins_total", "step" => step, "outcome" => outcome(error)).increment(1);
}

fn outcome(error: Option<&Error>) -> &'static str {
    match error {
        None => "success",
        Some(Error::Invalid { code: "LOGIN_DECLINED", .. }) => "declined",
        Some(Error::Upstream { .. }) => "upstream",
        Some(Error::RateLimited { .. }) => "rate_limited",
        Some(Error::Unavailable { .. } | Error::Bug(_)) => "failure",
        // What the person, or whoever sent them, got wrong.
        Some(
            Error::Invalid { .. } | Error::NotFound { .. } | Error::Unauthenticated { .. } | Error::Forbidden { .. },
        ) => "refused",
    }
}
