//! The tables, as SeaORM entities, and the closed sets that their columns hold. No rule lives here.
//!
//! Platform tables have no tenant: [`tenant`], [`identity`], [`source_record`], [`stream_cursor`], [`queue_message`],
//! [`ingest_failure`], [`kv_entry`], [`kv_lock`], [`kv_fence`]. Tables of a tenant carry `tenant_id`: [`user`], [`event`],
//! [`event_attendee`], [`change`], [`service_key`].
//! All instants are UTC in whole microseconds.

pub mod change;
pub mod event;
pub mod event_attendee;
pub mod identity;
pub mod ingest_failure;
pub mod kv_entry;
pub mod kv_fence;
pub mod kv_lock;
pub mod location;
pub mod queue_message;
pub mod service_key;
pub mod sets;
pub mod source_record;
pub mod stream_cursor;
pub mod tenant;
pub mod user;
