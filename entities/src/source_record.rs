//! The ledger: every external record as it came, or its tombstone. Events, RSVPs and counts are projections of it.

use sea_orm::entity::prelude::*;

use crate::{location::Texts, sets::Verdict};

/// The newest known version of one record.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "source_record")]
pub struct Model {
    /// AT-URI, or for what programs bring `SOURCE://TENANT/KIND/ID`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub uri: String,
    /// Repository that holds it; for what programs bring who answers, or the name of the source.
    pub did: String,
    /// Collection that holds it, or `SOURCE://TENANT/KIND`.
    pub collection: String,
    /// Key in the collection, or the identifier at the source.
    pub rkey: String,
    /// Revision of the repository at which this version was seen; only a newer one changes the row. Where nobody told one it
    /// is a time, and for a record of the network a guess, which begins with `0` and is less than every revision.
    pub rev: String,
    /// Version of the record; null for a tombstone.
    pub cid: Option<String>,
    /// The record verbatim, as JSON text; null for a tombstone.
    pub record: Option<String>,
    /// URI of the event that an RSVP answers.
    pub subject_uri: Option<String>,
    /// How well the record follows its lexicon.
    pub verdict: Verdict,
    /// Codes of the deviations.
    pub issues: Texts,
    /// When the record was deleted at its source; null while it lives.
    pub deleted_at: Option<DateTimeUtc>,
    /// When this version happened at its source, as the stream says.
    pub occurred_at: DateTimeUtc,
    /// When this version was committed here.
    pub ingested_at: DateTimeUtc,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
