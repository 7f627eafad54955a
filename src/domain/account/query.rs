//! Finding accounts. Store functions.

use std::{collections::HashMap, sync::Arc};

use entities::{
    event, identity,
    sets::{AccountStatus, HandleStatus, UserRole},
    user,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, RelationDef, Select, SelectTwo,
    sea_query::{BinOper, Expr, ExprTrait, Query, SelectStatement, UnionType},
};

use super::{Account, Actor};
use crate::{
    domain::{
        event as events,
        page::{self, KeyKind, Order, Page, Position, Slice},
        range::Range,
        tenant::Tenant,
    },
    error::Result,
    infra::db::among,
};

/// Conditions on shadow accounts, all of which must hold; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowFilter {
    /// The verified handle starts with this, in lower case.
    pub handle_prefix: Option<String>,
    /// When the account was first seen.
    pub created_at: Option<Range>,
    /// It has at least this many listed events.
    pub minimum_event_count: Option<u32>,
}

/// Accounts by id, visible or not: whoever holds an id got it from something visible.
pub async fn by_ids(db: &impl ConnectionTrait, tenant: Tenant, ids: Vec<i64>) -> Result<HashMap<i64, Arc<Account>>> {
    let condition = among(db.get_database_backend(), user::Column::Id, ids);
    let rows = with_identity(tenant.users().filter(condition)).all(db).await?;
    Ok(rows.into_iter().map(|(user, identity)| (user.id, Arc::new(Account { user, identity }))).collect())
}

/// Members to whom it was granted to administer the tenant, in the order in which they came.
pub async fn administrators(db: &impl ConnectionTrait, tenant: Tenant) -> Result<Vec<Account>> {
    let users = tenant.users().filter(user::Column::Role.eq(UserRole::Admin)).order_by_asc(user::Column::Id);
    let rows = with_identity(users).all(db).await?;
    Ok(rows.into_iter().map(|(user, identity)| Account { user, identity }).collect())
}

/// What the tables know of a DID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The account on the network.
    pub identity: Option<identity::Model>,
    /// The account in the tenant, visible or not.
    pub account: Option<Arc<Account>>,
}

/// What the tables know of DIDs; those that they have never heard of are left out.
pub async fn by_dids(db: &impl ConnectionTrait, tenant: Tenant, dids: Vec<String>) -> Result<HashMap<String, Known>> {
    if dids.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = db.get_database_backend();
    let condition = among(backend, identity::Column::Did, dids.clone());
    let identities = identity::Entity::find().filter(condition).all(db).await?;
    let users = tenant.users().filter(among(backend, user::Column::Did, dids)).all(db).await?;
    let mut known: HashMap<String, Known> = HashMap::new();
    for identity in identities {
        known.insert(identity.did.clone(), Known { identity: Some(identity), account: None });
    }
    for user in users {
        if let Some(did) = user.did.clone() {
            let entry = known.entry(did).or_default();
            entry.account = Some(Arc::new(Account { user, identity: entry.identity.clone() }));
        }
    }
    Ok(known)
}

/// Whom handles, in lower case, name as far as we have verified them.
pub async fn dids_by_handle(db: &impl ConnectionTrait, handles: Vec<String>) -> Result<HashMap<String, String>> {
    if handles.is_empty() {
        return Ok(HashMap::new());
    }
    let mut rows: Vec<(String, String)> = identity::Entity::find()
        .filter(verified(db.get_database_backend(), handles))
        .select_only()
        .columns([identity::Column::Handle, identity::Column::Did])
        .into_tuple()
        .all(db)
        .await?;
    // Of two that have claimed it, one after the other, nobody knows who is right before both are looked up again.
    rows.sort_unstable();
    let mut named = HashMap::new();
    let mut disputed = Vec::new();
    for (handle, did) in rows {
        if named.insert(handle.clone(), did).is_some() {
            disputed.push(handle);
        }
    }
    named.retain(|handle, _| !disputed.contains(handle));
    Ok(named)
}

/// The visible shadow account of a DID.
pub async fn find_shadow(db: &impl ConnectionTrait, tenant: Tenant, did: &str) -> Result<Option<Account>> {
    let select = tenant.users().filter(user::Column::Did.eq(did)).filter(user::Column::IsShadowAccount.eq(true));
    let row = with_identity(select).one(db).await?;
    Ok(row.map(|(user, identity)| Account { user, identity }).filter(Account::is_visible))
}

/// A page of the visible shadow accounts, newest first.
pub async fn shadows(
    db: &impl ConnectionTrait,
    tenant: Tenant,
    filter: &ShadowFilter,
    slice: &Slice,
) -> Result<Page<Account>> {
    let page = shadow_order().page(db, visible_shadows(db.get_database_backend(), tenant, filter), slice).await?;
    let dids: Vec<String> = page.rows.iter().filter_map(|user| user.did.clone()).collect();
    let condition = among(db.get_database_backend(), identity::Column::Did, dids);
    let identities = identity::Entity::find().filter(condition).all(db).await?;
    let mut identities: HashMap<String, identity::Model> =
        identities.into_iter().map(|identity| (identity.did.clone(), identity)).collect();
    let rows = page.rows.into_iter().map(|user| {
        let identity = user.did.as_ref().and_then(|did| identities.remove(did));
        Arc::new(Account { user: Arc::unwrap_or_clone(user), identity })
    });
    Ok(Page { rows: rows.collect(), has_next: page.has_next, has_previous: page.has_previous })
}

/// How many visible shadow accounts there are: exact up to [`page::MAX_TOTAL`], one more for all larger numbers.
pub async fn count_shadows(db: &impl ConnectionTrait, tenant: Tenant, filter: &ShadowFilter) -> Result<u64> {
    page::count(db, visible_shadows(db.get_database_backend(), tenant, filter)).await
}

/// The DIDs that actors name; a handle that is not verified names none.
pub async fn dids_of(db: &impl ConnectionTrait, actors: &[Actor]) -> Result<Vec<String>> {
    let mut dids: Vec<String> = Vec::with_capacity(actors.len());
    let mut handles = Vec::new();
    for actor in actors {
        match actor {
            Actor::Did(did) => dids.push(did.clone()),
            Actor::Handle(handle) => handles.push(handle.clone()),
        }
    }
    if !handles.is_empty() {
        let rows: Vec<String> = identity::Entity::find()
            .filter(verified(db.get_database_backend(), handles))
            .select_only()
            .column(identity::Column::Did)
            .into_tuple()
            .all(db)
            .await?;
        dids.extend(rows);
    }
    dids.sort_unstable();
    dids.dedup();
    Ok(dids)
}

/// The ids of the tenant's accounts that actors name, as part of another statement.
pub(crate) fn ids_of(backend: DbBackend, tenant: Tenant, actors: &[Actor]) -> SelectStatement {
    let mut dids = Vec::new();
    let mut handles = Vec::new();
    for actor in actors {
        match actor {
            Actor::Did(did) => dids.push(did.clone()),
            Actor::Handle(handle) => handles.push(handle.clone()),
        }
    }
    let ids = |named: Expr| tenant.users().filter(named).select_only().column(user::Column::Id).into_query();
    let mut all = ids(among(backend, user::Column::Did, dids));
    if !handles.is_empty() {
        let found = Query::select()
            .column(identity::Column::Did)
            .from(identity::Entity)
            .cond_where(verified(backend, handles))
            .take();
        // Not by OR: then PostgreSQL would look at every account.
        all.union(UnionType::All, ids(user::Column::Did.in_subquery(found)));
    }
    all
}

fn verified(backend: DbBackend, handles: Vec<String>) -> Condition {
    Condition::all()
        .add(among(backend, identity::Column::Handle, handles))
        .add(identity::Column::HandleStatus.eq(HandleStatus::Verified))
}

fn with_identity(users: Select<user::Entity>) -> SelectTwo<user::Entity, identity::Entity> {
    let relation: RelationDef =
        user::Entity::belongs_to(identity::Entity).from(user::Column::Did).to(identity::Column::Did).into();
    users.join(JoinType::LeftJoin, relation).select_also(identity::Entity)
}

fn visible_shadows(backend: DbBackend, tenant: Tenant, filter: &ShadowFilter) -> Select<user::Entity> {
    let network = |condition: Condition| {
        Query::select()
            .expr(Expr::val(1))
            .from(identity::Entity)
            .and_where(identity::Column::Did.into_expr().equals(user::Column::Did.as_column_ref()))
            .cond_where(condition)
            .take()
    };
    // Both spelt like the conditions of the partial indexes.
    let inactive = Condition::all().add(Expr::cust(format!("account_status <> '{}'", AccountStatus::Active.as_str())));
    let mut select =
        tenant.users().filter(user::Column::IsShadowAccount.into_expr()).filter(Expr::not_exists(network(inactive)));
    if let Some(range) = filter.created_at {
        select = select.filter(range.condition(user::Column::CreatedAt));
    }
    if let Some(prefix) = &filter.handle_prefix {
        let handle = Condition::all()
            .add(begins(backend, prefix))
            .add(identity::Column::HandleStatus.eq(HandleStatus::Verified));
        select = select.filter(Expr::exists(network(handle)));
    }
    if let Some(minimum) = filter.minimum_event_count.filter(|minimum| *minimum > 0) {
        // Looks at no more than so many events of each account. To count those of all of them would be a walk through the
        // whole table.
        let last = events::listed(tenant)
            .filter(event::Column::UserId.into_expr().equals(user::Column::Id.as_column_ref()))
            .select_only()
            .expr_as(Expr::val(1), "one")
            .limit(1)
            .offset(u64::from(minimum - 1))
            .into_query();
        select = select.filter(Expr::exists(last));
    }
    select
}

/// The handle begins so, in the order of bytes on both databases; PostgreSQL has other operators for that.
fn begins(backend: DbBackend, prefix: &str) -> Expr {
    let handle = || identity::Column::Handle.into_expr();
    // Behind everything that begins so: no handle holds the last character of Unicode.
    let end = format!("{prefix}\u{10ffff}");
    if backend == DbBackend::Postgres {
        return handle().binary(BinOper::Custom("~>=~"), prefix).and(handle().binary(BinOper::Custom("~<~"), end));
    }
    handle().gte(prefix).and(handle().lt(end))
}

/// How the list of shadow accounts is cut into pages.
pub(crate) fn shadow_order() -> Order<user::Entity> {
    Order {
        tag: b'w',
        key: user::Column::CreatedAt,
        kind: KeyKind::Instant,
        nullable: false,
        descending: true,
        id: user::Column::Id,
        position: |row| Position { key: Some(row.created_at.timestamp_micros()), id: row.id },
    }
}
