//! The doors: GraphQL and plain HTTP. They translate and guard; every rule lives in `domain`.

mod body;
pub mod graphql;
pub mod http;
