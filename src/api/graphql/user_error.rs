//! What a caller can correct: data of a mutation's payload, not errors of the request.

use async_graphql::{Enum, Interface, SimpleObject};

use super::error::Failure;
use crate::error::Error;

/// Stable codes of mistakes a caller can correct. New members may be added; treat unknown ones as `INVALID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum UserErrorCode {
    /// Value breaks a rule; see `field` and `reason`.
    Invalid,
    /// Object missing or not visible.
    NotFound,
    /// Caller lacks the permission.
    Forbidden,
    /// Object is in a state that does not allow this.
    WrongState,
    /// A host of the network is away, or answers wrongly; try again.
    Upstream,
}

/// Mistake a caller can correct.
#[derive(Clone, Debug, Interface)]
#[graphql(
    field(name = "code", ty = "UserErrorCode", desc = "Stable code."),
    field(
        name = "reason",
        ty = "&String",
        desc = "The broken rule, as `reason` tells it elsewhere, such as `FIELD_MISSING`; else the code."
    ),
    field(name = "message", ty = "String", desc = "Text for people; not stable."),
    field(
        name = "field",
        ty = "&Option<Vec<String>>",
        desc = "Path to the input field, such as `[\"input\", \"name\"]`; null when it concerns the whole input."
    )
)]
pub(crate) enum UserError {
    /// In the input.
    InputUserError(InputUserError),
}

/// Mistake in the input of a mutation.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct InputUserError {
    /// Stable code.
    #[graphql(owned)]
    code: UserErrorCode,
    /// The broken rule, as `reason` tells it elsewhere, such as `FIELD_MISSING`; else the code.
    reason: String,
    /// Text for people; not stable.
    #[graphql(owned)]
    message: String,
    /// Path to the input field, such as `["input", "name"]`; null when it concerns the whole input.
    field: Option<Vec<String>>,
}

impl UserError {
    /// What an error tells the caller to correct, inside this part of the input; or the error, where it is nothing that a
    /// caller can correct.
    pub(crate) fn of(error: Error, within: &[&str]) -> Result<Self, Failure> {
        let code = match &error {
            Error::Invalid { .. } => UserErrorCode::Invalid,
            Error::NotFound { .. } => UserErrorCode::NotFound,
            Error::Forbidden { .. } => UserErrorCode::Forbidden,
            Error::Upstream { .. } => UserErrorCode::Upstream,
            _ => return Err(error.into()),
        };
        let field = if let Error::Invalid { field, .. } = &error {
            let path = within.iter().map(ToString::to_string).chain(field.split('.').map(str::to_owned));
            Some(path.collect())
        } else {
            None
        };
        let (reason, message) = (error.reason().to_owned(), format!("failed to {error}"));
        Ok(Self::InputUserError(InputUserError { code, reason, message, field }))
    }

    /// An object that is not as it would have to be.
    pub(crate) fn wrong_state(reason: &str, message: impl Into<String>, field: &[&str]) -> Self {
        let field = Some(field.iter().map(ToString::to_string).collect());
        let (code, reason, message) = (UserErrorCode::WrongState, reason.to_owned(), message.into());
        Self::InputUserError(InputUserError { code, reason, message, field })
    }
}

/// What a mutation did, with the mistakes that kept it from it. Faults, and a caller who may not at all, are errors of the
/// request.
pub(crate) fn outcome<T>(result: Result<T, Error>, within: &[&str]) -> Result<(Option<T>, Vec<UserError>), Failure> {
    match result {
        Ok(value) => Ok((Some(value), Vec::new())),
        // Who may not call the mutation at all learns so like whoever may not read.
        Err(error @ (Error::Unauthenticated { .. } | Error::Forbidden { .. })) => Err(error.into()),
        Err(error) => Ok((None, vec![UserError::of(error, within)?])),
    }
}
