//! The GraphQL gateway between OpenMeet and the AT Protocol network.
//!
//! Four rings, one arrow: `roles → api → domain → infra → entities`. ARCHITECTURE.md is the map.

pub mod api;
pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod infra;
pub mod roles;
pub mod telemetry;
