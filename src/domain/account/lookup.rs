//! Handles, looked up in the background: nothing waits for it, and a failure hides nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    identity,
    sets::{AccountStatus, HandleStatus},
};
use futures_util::{StreamExt, stream};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tracing::{Instrument as _, debug, field::Empty, info_span};

use super::{shadow, told};
use crate::{
    app::App,
    domain::ingest::{self, hold_account, line},
    error::{Error, Result},
    infra::{
        atproto::{
            identity::{Handle, Resolved},
            pds::Repo,
            syntax::Did,
        },
        http::rest_of,
    },
    telemetry::caused,
};

/// How many accounts are looked up at once.
const AT_ONCE: usize = 8;
/// First pause after a failed look-up; it doubles with every further one.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(30);
/// Longest pause after failed look-ups.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(6);
/// Pause while a look-up is under way, so that two sweeps do not ask for the same account.
const UNDER_WAY: TimeDelta = TimeDelta::minutes(2);

/// Looks up the accounts that are due, the longest overdue first, and returns which there were.
pub async fn refresh(app: &App) -> Result<Vec<String>> {
    let due = take_due(app).await?;
    let dids = due.iter().map(|held| held.did.clone()).collect();
    let look = |held: identity::Model| {
        let span = caused(info_span!("identity.resolve", trace_id = Empty, did = held.did), None);
        look_up(app, held).instrument(span)
    };
    let mut answers = stream::iter(due).map(look).buffer_unordered(AT_ONCE);
    while let Some(outcome) = answers.next().await {
        outcome?;
    }
    Ok(dids)
}

/// When something will be due next; `None` while nothing is known.
pub async fn next_due(app: &App) -> Result<Option<Duration>> {
    let next: Option<DateTime<Utc>> = identity::Entity::find()
        .select_only()
        .column(identity::Column::NextCheckAt)
        .order_by_asc(identity::Column::NextCheckAt)
        .into_tuple()
        .one(app.db.read())
        .await?;
    Ok(next.map(|next| (next - app.clock.now()).to_std().unwrap_or_default()))
}

/// The accounts that are due, each with the time until which nobody else looks it up.
async fn take_due(app: &App) -> Result<Vec<identity::Model>> {
    let now = app.clock.now();
    let until = now + UNDER_WAY;
    let mut due = identity::Entity::find()
        .filter(identity::Column::NextCheckAt.lte(now))
        .order_by_asc(identity::Column::NextCheckAt)
        .limit(u64::from(app.config.identity.batch))
        .all(app.db.read())
        .await?;
    let dids: Vec<String> = due.iter().map(|held| held.did.clone()).collect();
    if !dids.is_empty() {
        let dids = &dids;
        app.db.transact(|tx| async move { super::identity::put_off(&*tx, dids.clone(), until).await }).await?;
    }
    for held in &mut due {
        held.next_check_at = until;
    }
    Ok(due)
}

/// Asks about one account and stores the answer. Only a failure of our own system is an error.
async fn look_up(app: &App, held: identity::Model) -> Result<()> {
    let Ok(did) = Did::parse(&held.did) else { return Ok(()) };
    let asked_at = app.clock.now();
    match app.directory.resolve(&did).await {
        Ok(resolved) => {
            let pds = resolved.as_ref().and_then(|resolved| resolved.pds.clone());
            store(app, &held, resolved).await?;
            if let Some(pds) = pds {
                check_status(app, &did, &held, &Repo::new(&app.outbound, pds), asked_at).await?;
            }
            Ok(())
        }
        Err(error @ (Error::Upstream { .. } | Error::RateLimited { .. } | Error::Invalid { .. })) => {
            debug!(did = held.did, error = error.chain(), "looking up an identity failed; it is tried again");
            put_off(app, &held, Some(&error)).await
        }
        Err(error) => Err(error),
    }
}

/// Writes down what was found of an account.
pub(super) async fn store(app: &App, held: &identity::Model, resolved: Option<Resolved>) -> Result<()> {
    let now = app.clock.now();
    // A DID that the directory does not know has no handle.
    let (handle, pds) = resolved.map_or((Handle::Invalid { claimed: None }, None), |r| (r.handle, r.pds));
    let (handle, status) = match handle {
        Handle::Verified(handle) => (Some(handle), HandleStatus::Verified),
        Handle::Invalid { claimed } => (claimed, HandleStatus::Invalid),
        // It could not be checked now: what was known stays, and it is tried again soon.
        Handle::Unknown => return put_off(app, held, None).await,
    };
    let shown = |handle: &Option<String>, status| handle.clone().filter(|_| status == HandleStatus::Verified);
    let is_new_name = shown(&held.handle, held.handle_status) != shown(&handle, status);
    let jitter = TimeDelta::seconds(fastrand::i64(0..3_600));
    let refresh = TimeDelta::from_std(app.config.identity.refresh()).unwrap_or(LONGEST_PAUSE);
    let row = identity::ActiveModel {
        did: Set(held.did.clone()),
        handle: Set(handle),
        handle_status: Set(status),
        pds: Set(pds.map(|pds| pds.to_string())),
        checked_at: Set(Some(now)),
        updated_at: Set(now),
        ..Default::default()
    };
    let row = &row;
    let told = app
        .db
        .transact(|tx| async move {
            let tx = &*tx;
            // The events are told as they are: nobody else may change them meanwhile.
            hold_account(tx, &held.did).await?;
            row.clone().update(tx).await?;
            super::identity::ask_next(tx, held, now + refresh + jitter, 0).await?;
            if !is_new_name {
                return Ok(0);
            }
            let users = shadow::find(tx, app.tenant, vec![held.did.clone()]).await?;
            told::organizer(tx, app.tenant, users.into_values().collect(), now).await
        })
        .await?;
    if told > 0 {
        app.changes.ring();
    }
    Ok(())
}

/// Tries later; where the host is left alone, not before it may be asked again, and then it does not count as an attempt.
async fn put_off(app: &App, held: &identity::Model, error: Option<&Error>) -> Result<()> {
    let rest = error.and_then(rest_of);
    let attempts = held.check_attempts.saturating_add(i32::from(rest.is_none()));
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    let pause = FIRST_PAUSE.checked_mul(1 << doublings).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    let rest = rest.and_then(|rest| TimeDelta::from_std(rest).ok()).unwrap_or_default();
    let at = app.clock.now() + pause.max(rest);
    app.db.transact(|tx| async move { super::identity::ask_next(&*tx, held, at, attempts).await }).await
}

/// Compares what is known of the account's status with what its present host says: a host that the account has left may
/// have called it inactive, and an account event may have been missed. A host that does not answer says nothing.
async fn check_status(
    app: &App,
    did: &Did,
    held: &identity::Model,
    repo: &Repo,
    asked_at: DateTime<Utc>,
) -> Result<()> {
    let status = match repo.status(did).await {
        Ok(Some(status)) => status,
        Ok(None) => return Ok(()),
        Err(error) => {
            debug!(did = held.did, error = error.chain(), "asking for an account's status failed");
            return Ok(());
        }
    };
    // What a relay took down its host may well serve on: only another word of the stream lifts it.
    let is_taken_down = matches!(held.account_status, AccountStatus::Takendown | AccountStatus::Suspended);
    let is_deleted = status.status.as_deref() == Some("deleted") && held.account_status != AccountStatus::Deleted;
    let is_same = status.active == (held.account_status == AccountStatus::Active) && !is_deleted;
    if is_same || (status.active && is_taken_down) {
        return Ok(());
    }
    debug!(did = held.did, active = status.active, "an account's host says other than the stream did");
    let line = line::of_account(did.as_str(), status.active, status.status.as_deref(), asked_at);
    ingest::submit(app, &[line]).await?;
    Ok(())
}
