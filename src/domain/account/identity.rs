//! Accounts of the network: whether they are active, and when their handle is to be looked up.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{
    identity,
    sets::{AccountStatus, HandleStatus},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use crate::{
    error::Result,
    infra::{
        atproto::syntax::tid_of,
        db::{among, insert},
    },
};

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    status: AccountStatus,
    status_at: Option<DateTime<Utc>>,
    purged_rev: Option<String>,
}

impl Default for Standing {
    /// Nobody has said anything: the account is active.
    fn default() -> Self {
        Self { status: AccountStatus::Active, status_at: None, purged_rev: None }
    }
}

impl Standing {
    /// Whether what the account wrote may be shown.
    pub fn is_active(&self) -> bool {
        self.status == AccountStatus::Active
    }

    /// Whether a record of this revision went with a deletion of the account, even if it arrives only now.
    pub fn is_purged(&self, rev: &str) -> bool {
        self.purged_rev.as_deref().is_some_and(|purged| rev <= purged)
    }

    /// The revision up to which everything is gone.
    pub fn purged_rev(&self) -> Option<&str> {
        self.purged_rev.as_deref()
    }

    /// Takes in what a host says. Whether anything changed: the newest word counts, but a deletion is never undone, since
    /// what was written before it is gone. Of two words of the same instant the lower standing counts, in any order.
    pub fn take(&mut self, status: AccountStatus, at: DateTime<Utc>) -> bool {
        let before = self.clone();
        if status == AccountStatus::Deleted {
            let rev = tid_of(at);
            if self.purged_rev.as_ref().is_none_or(|purged| *purged < rev) {
                self.purged_rev = Some(rev);
            }
        }
        if self.status_at.is_none_or(|known| (known, self.status) < (at, status)) {
            self.status = status;
            self.status_at = Some(at);
        }
        before != *self
    }
}

/// Makes these accounts known. Accounts that are known stay as they are.
pub async fn note(tx: &impl ConnectionTrait, dids: &[String], now: DateTime<Utc>) -> Result<()> {
    let rows = dids.iter().map(|did| identity::ActiveModel {
        did: Set(did.clone()),
        handle: Set(None),
        handle_status: Set(HandleStatus::Unknown),
        pds: Set(None),
        account_status: Set(AccountStatus::Active),
        status_at: Set(None),
        purged_rev: Set(None),
        checked_at: Set(None),
        next_check_at: Set(now),
        check_attempts: Set(0),
        created_at: Set(now),
        updated_at: Set(now),
    });
    let keep = OnConflict::column(identity::Column::Did).do_nothing().to_owned();
    insert(tx, rows.collect(), Some(keep)).await
}

/// Which of these accounts are known.
pub async fn known(db: &impl ConnectionTrait, dids: Vec<String>) -> Result<Vec<String>> {
    let known = identity::Entity::find()
        .select_only()
        .column(identity::Column::Did)
        .filter(among(db.get_database_backend(), identity::Column::Did, dids))
        .into_tuple()
        .all(db)
        .await?;
    Ok(known)
}

/// Every account that is known.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<String>> {
    Ok(identity::Entity::find().select_only().column(identity::Column::Did).into_tuple().all(db).await?)
}

/// How these accounts stand; those that are not known are left out.
pub async fn standings(db: &impl ConnectionTrait, dids: Vec<String>) -> Result<HashMap<String, Standing>> {
    type Row = (String, AccountStatus, Option<DateTime<Utc>>, Option<String>);
    let rows: Vec<Row> = identity::Entity::find()
        .select_only()
        .columns([
            identity::Column::Did,
            identity::Column::AccountStatus,
            identity::Column::StatusAt,
            identity::Column::PurgedRev,
        ])
        .filter(among(db.get_database_backend(), identity::Column::Did, dids))
        .into_tuple()
        .all(db)
        .await?;
    let standing = |(did, status, status_at, purged_rev)| (did, Standing { status, status_at, purged_rev });
    Ok(rows.into_iter().map(standing).collect())
}

/// Stores how an account stands.
pub async fn save(tx: &impl ConnectionTrait, did: &str, standing: &Standing, now: DateTime<Utc>) -> Result<()> {
    identity::Entity::update_many()
        .col_expr(identity::Column::AccountStatus, Expr::value(standing.status.as_str()))
        .col_expr(identity::Column::StatusAt, Expr::value(standing.status_at))
        .col_expr(identity::Column::PurgedRev, Expr::value(standing.purged_rev.clone()))
        .col_expr(identity::Column::UpdatedAt, Expr::value(now))
        .filter(identity::Column::Did.eq(did))
        .exec(tx)
        .await?;
    Ok(())
}

/// Stores the origin of an account's PDS, which whoever has just asked the directory knows.
pub async fn save_pds(tx: &impl ConnectionTrait, did: &str, pds: &str, now: DateTime<Utc>) -> Result<()> {
    identity::Entity::update_many()
        .col_expr(identity::Column::Pds, Expr::value(pds))
        .col_expr(identity::Column::UpdatedAt, Expr::value(now))
        .filter(identity::Column::Did.eq(did))
        .exec(tx)
        .await?;
    Ok(())
}

/// The directory is asked about these accounts again as soon as possible; what is known stays until it answers.
pub async fn ask_again(tx: &impl ConnectionTrait, dids: Vec<String>, now: DateTime<Utc>) -> Result<()> {
    identity::Entity::update_many()
        .col_expr(identity::Column::NextCheckAt, Expr::value(now))
        .col_expr(identity::Column::CheckAttempts, Expr::value(0))
        .filter(among(tx.get_database_backend(), identity::Column::Did, dids))
        .exec(tx)
        .await?;
    Ok(())
}

/// The directory is not asked about these accounts before `until`.
pub(super) async fn put_off(tx: &impl ConnectionTrait, dids: Vec<String>, until: DateTime<Utc>) -> Result<()> {
    identity::Entity::update_many()
        .col_expr(identity::Column::NextCheckAt, Expr::value(until))
        .filter(among(tx.get_database_backend(), identity::Column::Did, dids))
        .exec(tx)
        .await?;
    Ok(())
}

/// After a look-up, the directory is asked about the account again at `at`, unless [`ask_again`] came while the look-up
/// was under way: then it stays due, because the answer may be older than the reason for asking.
pub(super) async fn ask_next(
    tx: &impl ConnectionTrait,
    held: &identity::Model,
    at: DateTime<Utc>,
    attempts: i32,
) -> Result<()> {
    identity::Entity::update_many()
        .col_expr(identity::Column::NextCheckAt, Expr::value(at))
        .col_expr(identity::Column::CheckAttempts, Expr::value(attempts))
        .filter(identity::Column::Did.eq(&held.did))
        .filter(identity::Column::NextCheckAt.eq(held.next_check_at))
        .exec(tx)
        .await?;
    Ok(())
}
