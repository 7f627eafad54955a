//! The GraphQL gateway between OpenMeet and the AT Protocol network.
//!
//! Four rings, one arrow: `roles → api → domain → infra → entities`. ARCHITECTURE.md is the map.

// The futures of whole requests nest deeper than the compiler computes by default, most of all in release mode.
#![recursion_limit = "256"]

pub mod api;
pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod infra;
pub mod roles;
pub mod telemetry;
