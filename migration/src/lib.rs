//! Migrations, one file each, written once for SQLite and PostgreSQL.
//!
//! A migration that has been released is never edited; a change of a column is an expansion first and a contraction one
//! release later, so that two versions of the gateway can run side by side.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;

mod columns;
mod m20261122_000001_create_platform;
mod m20261122_000002_create_events;
mod m20261122_000003_seed_statistics;
mod m20261122_000004_create_kv;
mod m20261122_000005_create_service_key;
mod m20261122_000006_create_search;
mod m20261123_000001_carry_causes;
mod m20261123_000007_create_event_source;
mod m20261123_000007_lead_with_names;
mod m20261123_000008_add_administration;
mod m20261123_000009_add_people;
mod m20261123_000009_count_losses;
mod m20261123_000010_find_failures;
mod m20261123_000011_lead_with_records;

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_create_platform::Migration),
            Box::new(m20261122_000002_create_events::Migration),
            Box::new(m20261122_000003_seed_statistics::Migration),
            Box::new(m20261122_000004_create_kv::Migration),
            Box::new(m20261122_000005_create_service_key::Migration),
            Box::new(m20261122_000006_create_search::Migration),
            Box::new(m20261123_000007_lead_with_names::Migration),
            Box::new(m20261123_000007_create_event_source::Migration),
            Box::new(m20261123_000001_carry_causes::Migration),
            Box::new(m20261123_000008_add_administration::Migration),
            Box::new(m20261123_000009_count_losses::Migration),
            Box::new(m20261123_000010_find_failures::Migration),
            Box::new(m20261123_000009_add_people::Migration),
            Box::new(m20261123_000011_lead_with_records::Migration),
        ]
    }
}
