//! The pipeline that every external record passes, whatever door it came through.
//!
//! The folder is the diagram: `s1_receive` → `s2_identify` → `s3_attribute` → `s4_map` → `s5_dedupe` → `s6_route` →
//! `s7_validate` → `s8_persist` → `s9_notify`. Each stage takes its predecessor's output type, so that none can be skipped
//! or moved. Stages 1 to 7 only decide; stage 8 is the only one that writes, in one transaction for the whole batch.
//!
//! Invariants: a change applies only if its revision is newer than the one that the ledger holds for that URI, so messages
//! may come twice, late and in any order; what cannot be applied is parked with the stage, a code and the payload, in the
//! same transaction; a message that came through [`submit`] without an error is durable. What the database itself refuses
//! may be tried some times before it is parked.
//!
//! Deliberately absent: network calls. What must be fetched is fetched by [`resync`] before it enters.

pub mod cursor;
pub mod failure;
pub mod line;
mod parked;
mod pipeline;
pub mod resync;
mod revision;
mod s1_receive;
mod s2_identify;
mod s3_attribute;
mod s4_map;
mod s5_dedupe;
mod s6_route;
mod s7_validate;
mod s8_persist;
mod s9_notify;
mod told;

pub use self::{
    parked::{Parked, Stage},
    pipeline::{Outcome, attempt, give_up, submit},
    s1_receive::is_oversized,
    s3_attribute::accepts,
    s5_dedupe::Foresight,
    s8_persist::{LOCK, hold_account},
    told::handed_on,
};
