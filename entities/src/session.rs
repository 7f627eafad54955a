//! Sessions of people: who is signed in, on which device. The token itself is not kept, only its hash.

use sea_orm::entity::prelude::*;

use crate::sets::SessionKind;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Tenant of the member; the token opens nothing in another.
    pub tenant_id: i64,
    /// The member.
    pub user_id: i64,
    /// How the token is shown.
    pub kind: SessionKind,
    /// The part of the token that is no secret, unique: it finds the row.
    #[sea_orm(unique)]
    pub prefix: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// What the program called itself that signed in, shortened.
    pub user_agent: Option<String>,
    /// Signed in.
    pub created_at: DateTimeUtc,
    /// Latest use, to about a minute.
    pub last_used_at: DateTimeUtc,
    /// When it ends unless it is used before; never behind `ends_at`.
    pub expires_at: DateTimeUtc,
    /// When it ends however often it is used.
    pub ends_at: DateTimeUtc,
    /// When it was ended by its member; null while it opens.
    pub revoked_at: Option<DateTimeUtc>,
}

/// Joins are made by batched look-ups, so none is declared.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
