//! What a caller is told of an error.
//!
//! [`Failure`] wraps the one error of the gateway and deliberately has no `Display`: the library turns whatever can be
//! displayed into a message for the caller, so that a raw database error could slip through a `?`. This way nothing but
//! [`Error`] can fail a field.

use std::sync::{Arc, OnceLock};

use async_graphql::ErrorExtensionValues;
use tracing::{debug, error};
use uuid::Uuid;

use crate::error::Error;

/// What a field that can fail returns: null in the schema's terms, or a value, or an error beside a null.
pub(crate) type Fallible<T> = Option<Result<T, Failure>>;

/// An error on its way to a caller. Clones are the same failure: it is logged once, and has one id.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Arc<Told>);

#[derive(Debug)]
struct Told {
    error: Error,
    id: OnceLock<Uuid>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(Arc::new(Told { error, id: OnceLock::new() }))
    }
}

impl Failure {
    /// Logs it, unless that was done, and says under which id.
    fn report(&self) -> Uuid {
        *self.0.id.get_or_init(|| {
            let id = Uuid::now_v7();
            let (code, error) = (self.0.error.code().as_str(), self.0.error.chain());
            // That everything ends at a shutdown is no news.
            if matches!(self.0.error, Error::Unavailable { service: "shutdown", .. }) {
                debug!(error.id = %id, error.code = code, error, "a GraphQL field ended");
            } else {
                error!(error.id = %id, error.code = code, error, "a GraphQL field failed");
            }
            id
        })
    }
}

impl From<Failure> for async_graphql::Error {
    fn from(failure: Failure) -> Self {
        let error = &failure.0.error;
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", error.code().as_str());
        // The message of a mistake of ours may tell what is nobody's business.
        let message =
            if let Error::Bug(_) = error { "internal error".to_owned() } else { format!("failed to {error}") };
        match error {
            Error::NotFound { .. } | Error::Unauthenticated { .. } | Error::Forbidden { .. } => {}
            Error::Invalid { field, code, .. } => {
                extensions.set("field", field.as_ref());
                extensions.set("reason", *code);
            }
            Error::RateLimited { retry_after } => {
                // Whole seconds, rounded up: whoever waits that long is let in.
                let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                extensions.set("retryAfter", seconds);
            }
            Error::Upstream { service, .. } | Error::Unavailable { service, .. } => {
                failure.report();
                extensions.set("service", *service);
            }
            Error::Bug(_) => {
                extensions.set("errorId", failure.report().to_string());
            }
        }
        Self { message, source: None, extensions: Some(extensions) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;

    use super::*;

    fn told(error: Error) -> serde_json::Value {
        serde_json::to_value(async_graphql::Error::from(Failure::from(error))).unwrap()
    }

    #[test]
    fn a_secret_cause_never_reaches_the_caller() {
        for error in [
            Error::bug(anyhow!("password=hunter2")),
            Error::upstream("pds", anyhow!("password=hunter2")),
            Error::Unavailable { service: "database", source: anyhow!("password=hunter2") },
        ] {
            assert!(!told(error).to_string().contains("hunter2"));
        }
    }

    #[test]
    fn clones_are_one_failure() {
        let failure = Failure::from(Error::bug(anyhow!("no")));
        let ids = [failure.clone(), failure].map(|failure| {
            let error = async_graphql::Error::from(failure);
            error.extensions.and_then(|extensions| extensions.get("errorId").cloned()).unwrap()
        });
        assert_eq!(ids[0], ids[1]);
    }

    #[test]
    fn extensions_say_what_to_do() {
        let invalid = told(Error::invalid("first", "PAGE_SIZE_OUT_OF_RANGE", "too large"));
        assert_eq!(invalid["extensions"]["code"], "BAD_USER_INPUT");
        assert_eq!(invalid["extensions"]["field"], "first");
        assert_eq!(invalid["extensions"]["reason"], "PAGE_SIZE_OUT_OF_RANGE");
        let limited = told(Error::RateLimited { retry_after: Duration::from_millis(1500) });
        assert_eq!(limited["extensions"]["retryAfter"], 2);
    }
}
