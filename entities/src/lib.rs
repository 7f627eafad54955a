//! The tables, as SeaORM entities, and the closed sets that their columns hold. No rule lives here.
//!
//! Platform tables have no tenant: [`tenant`], [`identity`], [`source_record`], [`stream_cursor`], [`queue_message`],
//! [`ingest_failure`], [`ingest_failure_log`], [`kv_entry`], [`kv_lock`], [`kv_fence`]. Tables of a tenant carry `tenant_id`:
//! [`user`], [`session`], [`event`], [`event_attendee`], [`event_source`], [`change`], [`service_key`], [`service_key_tenant`],
//! [`audit_entry`].
//! All instants are UTC in whole microseconds.

pub mod audit_entry;
pub mod change;
pub mod event;
pub mod event_attendee;
pub mod event_source;
pub mod identity;
pub mod ingest_failure;
pub mod ingest_failure_log;
pub mod kv_entry;
pub mod kv_fence;
pub mod kv_lock;
pub mod location;
pub mod preferences;
pub mod queue_message;
pub mod service_key;
pub mod service_key_tenant;
pub mod session;
pub mod sets;
pub mod source_record;
pub mod stream_cursor;
pub mod tenant;
pub mod user;
