//! What happened to the messages that were put aside, one row for each time.

use sea_orm::entity::prelude::*;

use crate::sets::FailureState;

/// One thing that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ingest_failure_log")]
pub struct Model {
    /// Key; also the position that readers of the log stand at.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The message; its row may be gone.
    pub failure_id: i64,
    /// What it became.
    pub state: FailureState,
    /// Stage that refused it, as it was then.
    pub stage: String,
    /// Reason in upper snake case, as it was then.
    pub code: String,
    /// Text for people: why it failed, or why somebody decided so.
    pub reason: String,
    /// Who decided; null for what the pipeline did by itself.
    pub decided_by: Option<String>,
    /// When.
    pub at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
