//! Sessions of people: what a member shows after signing in, on each device its own.
//!
//! A token is told once and only its hash is kept (`src/domain/secret.rs`). It is made at the sign-in and by nobody else, so
//! that no one can be given a session that somebody else knows. It opens the tenant of its member and no other; it ends when it
//! is not used for a while, at the latest after a set time, and as soon as its member ends it: from the next request on,
//! in every process.

pub mod code;

use std::{collections::HashMap, slice};

use chrono::{DateTime, TimeDelta, Utc};
pub use entities::sets::SessionKind as Kind;
use entities::{session, user};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tracing::{info, warn};

use crate::{
    app::App,
    domain::{account::member, secret, source::lenient::clean, tenant::Tenant},
    error::{Error, Result},
    infra::db::among,
};

/// What every token begins with.
const MARK: &str = "oms_";
/// Characters that are kept of what a program calls itself.
const AGENT_CHARS: usize = 200;
/// Sessions of one member; a further one takes the place of the one that was not used for longest.
const MOST: u64 = 100;
/// How exactly the use of a session is noted: every request would wait for a write.
const COARSE: TimeDelta = TimeDelta::minutes(1);
/// How long what has ended is still listed.
const KEPT: TimeDelta = TimeDelta::days(30);

/// A session that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// The token, which is told nobody again.
    pub token: String,
    /// When it ends unless it is used.
    pub expires_at: DateTime<Utc>,
}

/// A token that was shown and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The session.
    pub session: session::Model,
    /// The member.
    pub user: user::Model,
}

impl Found {
    /// The tenant that the session opens.
    pub fn tenant(&self) -> Tenant {
        Tenant::of_user(&self.user)
    }
}

/// Opens a session of a member who has just signed in.
///
/// Errors: `NotFound` for whoever is no member.
pub async fn open(app: &App, user_id: i64, kind: Kind, user_agent: Option<&str>) -> Result<NewSession> {
    let made = &secret::new(MARK)?;
    let agent = &user_agent.map(|agent| clean(agent).chars().take(AGENT_CHARS).collect::<String>());
    let (idle, longest) = lifetimes(app);
    let now = app.clock.now();
    let ends_at = now + longest;
    let expires_at = ends_at.min(now + idle);
    let insert = app.db.transact(|tx| async move {
        let missing = || Error::NotFound { what: "member", key: user_id.to_string() };
        let user = member::find(&*tx, user_id).await?.ok_or_else(missing)?;
        make_room(&*tx, user_id, now).await?;
        let row = session::ActiveModel {
            id: NotSet,
            tenant_id: Set(user.tenant_id),
            user_id: Set(user_id),
            kind: Set(kind),
            prefix: Set(made.prefix.clone()),
            hash: Set(made.hash.clone()),
            user_agent: Set(agent.clone().filter(|agent| !agent.is_empty())),
            created_at: Set(now),
            last_used_at: Set(now),
            expires_at: Set(expires_at),
            ends_at: Set(ends_at),
            revoked_at: Set(None),
        };
        session::Entity::insert(row).exec_without_returning(&*tx).await?;
        Ok(())
    });
    insert.await?;
    info!(user = user_id, session = made.prefix, kind = kind.as_str(), "a session was opened");
    Ok(NewSession { token: made.text.clone(), expires_at })
}

/// Whether this has the form of a token: what has not is somebody else's.
pub fn is_token(text: &str) -> bool {
    secret::prefix_of(MARK, text).is_some()
}

/// Whose token this is; `None` for one that does not open, for whatever reason. That it was used is noted, and puts its end
/// off.
pub async fn find(app: &App, token: &str) -> Result<Option<Found>> {
    // What has not the form of a token costs no query.
    let Some(prefix) = secret::prefix_of(MARK, token) else { return Ok(None) };
    let row = session::Entity::find().filter(session::Column::Prefix.eq(prefix)).one(app.db.read()).await?;
    let now = app.clock.now();
    let Some(session) = row.filter(|row| secret::is(token, &row.hash) && is_valid(row, now)) else { return Ok(None) };
    let Some(user) = member::find(app.db.read(), session.user_id).await? else { return Ok(None) };
    note_use(app, slice::from_ref(&session)).await;
    Ok(Some(Found { session, user }))
}

/// Those of these tokens that open, with their rows. That they were used is for the caller to note.
pub(super) async fn find_all<'a>(app: &App, tokens: &[&'a str]) -> Result<HashMap<&'a str, session::Model>> {
    let tokens: Vec<(String, &str)> =
        tokens.iter().filter_map(|token| Some((secret::prefix_of(MARK, token)?, *token))).collect();
    if tokens.is_empty() {
        return Ok(HashMap::new());
    }
    let db = app.db.read();
    let prefixes = tokens.iter().map(|(prefix, _)| prefix.clone()).collect();
    let rows = session::Entity::find()
        .filter(among(db.get_database_backend(), session::Column::Prefix, prefixes))
        .filter(session::Column::UserId.in_subquery(member::ids()))
        .all(db)
        .await?;
    let rows: HashMap<&str, &session::Model> = rows.iter().map(|row| (&*row.prefix, row)).collect();
    let now = app.clock.now();
    let opens = |token: &str, row: &session::Model| secret::is(token, &row.hash) && is_valid(row, now);
    let row_of = |(prefix, token): (String, &'a str)| {
        let row = rows.get(&*prefix).filter(|row| opens(token, row))?;
        Some((token, session::Model::clone(row)))
    };
    Ok(tokens.into_iter().filter_map(row_of).collect())
}

/// The sessions of a member that are open, the one that was used last first.
pub async fn list(app: &App, user_id: i64) -> Result<Vec<session::Model>> {
    let mut rows = open_ones(user_id, app.clock.now())
        .order_by_desc(session::Column::LastUsedAt)
        .order_by_desc(session::Column::Id)
        .limit(MOST)
        .all(app.db.read())
        .await?;
    // Whoever lists them needs nothing of what opens.
    for row in &mut rows {
        row.hash.clear();
    }
    Ok(rows)
}

/// How many sessions are open, of whomever.
pub async fn count_open(app: &App) -> Result<u64> {
    let open = session::Entity::find()
        .filter(session::Column::RevokedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(app.clock.now()));
    Ok(open.count(app.db.read()).await?)
}

/// Ends one session of a member. One that was ended before stays as it is.
///
/// Errors: `NotFound` for a session of somebody else, too.
pub async fn revoke(app: &App, user_id: i64, session_id: i64) -> Result<session::Model> {
    let revoked = app.db.transact(|tx| async move {
        let missing = || Error::NotFound { what: "session", key: session_id.to_string() };
        let own = session::Entity::find_by_id(session_id).filter(session::Column::UserId.eq(user_id));
        let found = own.one(&*tx).await?.ok_or_else(missing)?;
        if found.revoked_at.is_some() {
            return Ok(found);
        }
        let now = Some(app.clock.now());
        session::Entity::update_many()
            .col_expr(session::Column::RevokedAt, Expr::value(now))
            .filter(session::Column::Id.eq(session_id))
            .exec(&*tx)
            .await?;
        Ok(session::Model { revoked_at: now, ..found })
    });
    let revoked = revoked.await?;
    info!(user = user_id, session = revoked.prefix, "a session was ended");
    Ok(revoked)
}

/// Ends all sessions of a member. How many were open.
pub async fn revoke_all(app: &App, user_id: i64) -> Result<u64> {
    let now = app.clock.now();
    let count = app.db.transact(|tx| async move { end_all(&*tx, user_id, now).await }).await?;
    info!(user = user_id, count, "all sessions of a member were ended");
    Ok(count)
}

/// Ends all sessions of a member. Store function.
pub(super) async fn end_all(tx: &impl ConnectionTrait, user_id: i64, now: DateTime<Utc>) -> Result<u64> {
    let update = session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(Some(now)))
        .filter(session::Column::UserId.eq(user_id))
        .filter(session::Column::RevokedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now));
    Ok(update.exec(tx).await?.rows_affected)
}

/// Whether the member is signed in anywhere.
pub async fn is_open(app: &App, user_id: i64) -> Result<bool> {
    Ok(open_ones(user_id, app.clock.now()).count(app.db.read()).await? > 0)
}

/// Deletes what ended a while ago. How many there were.
pub async fn clear(tx: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64> {
    let over = session::Entity::delete_many().filter(session::Column::ExpiresAt.lte(now - KEPT));
    Ok(over.exec(tx).await?.rows_affected)
}

fn is_valid(row: &session::Model, now: DateTime<Utc>) -> bool {
    row.revoked_at.is_none() && row.expires_at > now && row.ends_at > now
}

fn open_ones(user_id: i64, now: DateTime<Utc>) -> sea_orm::Select<session::Entity> {
    session::Entity::find()
        .filter(session::Column::UserId.eq(user_id))
        .filter(session::Column::RevokedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
}

fn lifetimes(app: &App) -> (TimeDelta, TimeDelta) {
    let session = &app.config.session;
    let span = |time| TimeDelta::from_std(time).unwrap_or(TimeDelta::days(1));
    (span(session.idle()), span(session.longest()))
}

/// Ends those sessions that would be too many with one more, the ones that were not used for longest.
async fn make_room(tx: &impl ConnectionTrait, user_id: i64, now: DateTime<Utc>) -> Result<()> {
    let too_many: Vec<i64> = open_ones(user_id, now)
        .select_only()
        .column(session::Column::Id)
        .order_by_desc(session::Column::LastUsedAt)
        .order_by_desc(session::Column::Id)
        .offset(MOST - 1)
        .limit(MOST)
        .into_tuple()
        .all(tx)
        .await?;
    if too_many.is_empty() {
        return Ok(());
    }
    session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(Some(now)))
        .filter(session::Column::Id.is_in(too_many))
        .exec(tx)
        .await?;
    Ok(())
}

/// Notes that sessions are in use. It can wait for the next use when it fails.
pub(super) async fn note_use(app: &App, rows: &[session::Model]) {
    let now = app.clock.now();
    let (coarse, longest) = (now - COARSE, now + lifetimes(app).0);
    let due = rows.iter().filter(|row| row.last_used_at <= coarse);
    let (last, others): (Vec<_>, Vec<_>) = due.partition(|row| row.ends_at <= longest);
    let ids = |rows: Vec<&session::Model>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let parts = [(ids(others), Expr::value(longest)), (ids(last), Expr::col(session::Column::EndsAt))];
    let parts = &parts.into_iter().filter(|(ids, _)| !ids.is_empty()).collect::<Vec<_>>();
    if parts.is_empty() {
        return;
    }
    let noted = app.db.transact(|tx| async move {
        for (ids, expires_at) in parts {
            session::Entity::update_many()
                .col_expr(session::Column::LastUsedAt, Expr::value(now))
                .col_expr(session::Column::ExpiresAt, expires_at.clone())
                .filter(among(tx.get_database_backend(), session::Column::Id, ids.clone()))
                .filter(session::Column::LastUsedAt.lte(coarse))
                .filter(session::Column::RevokedAt.is_null())
                .exec(&*tx)
                .await?;
        }
        Ok(())
    });
    if let Err(error) = noted.await {
        warn!(sessions = rows.len(), error = error.chain(), "the use of sessions was not noted");
    }
}
