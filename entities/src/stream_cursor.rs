//! How far each stream has been read.

use sea_orm::entity::prelude::*;

/// Position in one stream.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "stream_cursor")]
pub struct Model {
    /// Address of the stream, as configured.
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint: String,
    /// Everything up to here is in the queue. Microseconds for Jetstream, a sequence number for a firehose.
    pub position: i64,
    /// Last move.
    pub updated_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
