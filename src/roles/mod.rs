//! The processes: which loops run, how they start and how they stop.

pub mod firehose;
pub mod process;
pub mod serve;
pub mod sweep;
