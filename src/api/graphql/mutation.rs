//! The root of writing.

use async_graphql::MergedObject;

use super::admin::{FailureMutation, IntegrationMutation, KeyMutation};

/// Entry points for writing. Root fields run one after the other; every payload has `userErrors`.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(FailureMutation, KeyMutation, IntegrationMutation);
