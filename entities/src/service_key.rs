//! Keys of the programs that bring events and answers over HTTP. The key itself is not kept, only its hash.

use sea_orm::entity::prelude::*;

use crate::location::Texts;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_key")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The tenant that is meant where a request names none; all of them are in `service_key_tenant`.
    pub tenant_id: i64,
    /// What it is for, in an operator's words.
    pub name: String,
    /// The part of the key that is no secret, unique: it finds the row and names the key to people.
    #[sea_orm(unique)]
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub hash: Vec<u8>,
    /// Source types that it speaks for.
    pub source_types: Texts,
    /// Whether it administers its tenant, too.
    pub is_admin: bool,
    /// Creation.
    pub created_at: DateTimeUtc,
    /// Latest use, to about an hour; null before the first one.
    pub last_used_at: Option<DateTimeUtc>,
    /// When it was withdrawn; null while it opens.
    pub revoked_at: Option<DateTimeUtc>,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
