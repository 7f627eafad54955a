//! The root of writing.

use async_graphql::MergedObject;

use super::{
    admin::{AccountMutation, FailureMutation, IntegrationMutation, KeyMutation},
    member::MemberMutation,
    viewer::SessionMutation,
};

/// Entry points for writing. Root fields run one after the other; every payload has `userErrors`.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    FailureMutation,
    KeyMutation,
    IntegrationMutation,
    MemberMutation,
    SessionMutation,
    AccountMutation,
);
