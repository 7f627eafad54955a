//! The one error of the gateway.
//!
//! Every error has one [code](Error::code) for callers and one [class](Error::class) for queues. Translators stand at
//! the doors: `api/graphql/error.rs` and `api/http/problem.rs` make answers of it, `roles/process.rs` decides
//! with its class. Messages are lower-case fragments that complete "failed to …"; the cause is kept as the source and
//! never interpolated, so that it is logged once, where the error is handled, and never reaches a caller.

mod code;

use std::{borrow::Cow, time::Duration};

pub use self::code::Code;

/// Result of everything that can fail in the gateway.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as anybody has to act on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something named by the caller does not exist, or not for this caller.
    #[error("find {what} {key}")]
    NotFound {
        /// Noun, such as `event`.
        what: &'static str,
        /// The key that was asked for.
        key: String,
    },
    /// The caller shows nothing that opens.
    #[error("know the caller: {why}")]
    Unauthenticated {
        /// Text for people.
        why: &'static str,
    },
    /// The caller is known and may not.
    #[error("let the caller in: {why}")]
    Forbidden {
        /// Text for people.
        why: &'static str,
    },
    /// Input that breaks a rule; `code` is the stable reason.
    #[error("accept {field}: {why}")]
    Invalid {
        /// Field or argument at fault.
        field: Cow<'static, str>,
        /// Stable reason in upper snake case, such as `RECORD_TOO_LARGE`.
        code: &'static str,
        /// Text for people.
        why: Cow<'static, str>,
    },
    /// A host of the network that is not ours answered wrongly or not at all.
    #[error("reach {service}")]
    Upstream {
        /// Kind of the host, such as `pds`; a closed set, usable as a metric label.
        service: &'static str,
        /// The cause.
        #[source]
        source: anyhow::Error,
    },
    /// The caller or an upstream has to wait.
    #[error("continue before the limit resets")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// A part of our own system is away: the database, the listener, or the process itself, which is ending.
    #[error("use the {service}")]
    Unavailable {
        /// Which part; a closed set, usable as a metric label.
        service: &'static str,
        /// The cause.
        #[source]
        source: anyhow::Error,
    },
    /// A mistake of ours; callers see an error id instead of the message.
    #[error("go on")]
    Bug(#[source] anyhow::Error),
}

/// What a queue does with a message whose processing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again later, give up after the last rung of the ladder.
    Retryable,
    /// The message itself is at fault: park it with its reason and go on.
    Data,
    /// Our own system is at fault: stop consuming until it is back; the message waits.
    System,
}

impl Error {
    /// Input that breaks a rule.
    pub fn invalid(field: impl Into<Cow<'static, str>>, code: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field: field.into(), code, why: why.into() }
    }

    /// A host of the network failed.
    pub fn upstream(service: &'static str, source: impl Into<anyhow::Error>) -> Self {
        Self::Upstream { service, source: source.into() }
    }

    /// A mistake of ours.
    pub fn bug(source: impl Into<anyhow::Error>) -> Self {
        Self::Bug(source.into())
    }

    /// Stable code for callers.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::Forbidden { .. } => Code::Forbidden,
            Self::Invalid { .. } => Code::BadInput,
            Self::Upstream { .. } => Code::Upstream,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Bug(_) => Code::Internal,
        }
    }

    /// Precise stable reason: the rule that was broken where there is one, the [code](Self::code) otherwise.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { code, .. } => code,
            other => other.code().as_str(),
        }
    }

    /// What a queue does with the message.
    pub fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } | Self::Unauthenticated { .. } | Self::Forbidden { .. } | Self::Invalid { .. } => {
                Class::Data
            }
            Self::Upstream { .. } | Self::RateLimited { .. } | Self::Bug(_) => Class::Retryable,
            Self::Unavailable { .. } => Class::System,
        }
    }

    /// The message with its causes, for logs and the failure list; never for callers.
    pub fn chain(&self) -> String {
        let mut text = format!("failed to {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
