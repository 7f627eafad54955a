//! Messages that could not be applied, put aside for a person.

use sea_orm::entity::prelude::*;

use crate::sets::FailureState;

/// One parked message.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ingest_failure")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// SHA-256 of the payload in hex, unique: the same message parks once, however often it comes.
    #[sea_orm(unique)]
    pub payload_hash: String,
    /// The message as it came.
    pub payload: String,
    /// Repository, as far as it could be read.
    pub did: Option<String>,
    /// AT-URI, as far as it could be read.
    pub uri: Option<String>,
    /// Stage of the pipeline that refused it.
    pub stage: String,
    /// Stable reason in upper snake case.
    pub code: String,
    /// Text for people.
    pub reason: String,
    /// How often it failed.
    pub attempts: i32,
    /// What became of it.
    pub state: FailureState,
    /// First failure.
    pub first_failed_at: DateTimeUtc,
    /// Latest failure.
    pub last_failed_at: DateTimeUtc,
    /// When it left the state `parked`.
    pub resolved_at: Option<DateTimeUtc>,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
