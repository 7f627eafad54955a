//! What a member has chosen of the link to their account on the network.

use chrono::{DateTime, Utc};
use entities::{preferences::Bluesky, sets::AuditAction, user};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, DatabaseTransaction};

use super::{claim::hold, member, tokens};
use crate::{
    app::App,
    domain::{
        actor::Actor,
        audit::{self, Deed},
        tenant::Tenant,
    },
    error::{Error, Result},
};

/// What is to be different; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Publish new events without asking.
    pub auto_post: Option<bool>,
    /// Whether the link is in force. It can be cut this way; to make it again the person has to sign in.
    pub connected: Option<bool>,
}

/// Changes what the person who asks has chosen. The link as it is now.
///
/// Errors: those of [`Actor::person`]; `NOT_LINKED` where there is no link; `SIGN_IN_NEEDED` to make one again.
pub async fn choose(app: &App, actor: &Actor, choice: Choice) -> Result<Bluesky> {
    let person = actor.person()?;
    let chosen = app.db.transact(|tx| async move {
        let now = app.clock.now();
        let (user, before) = held(&tx, app, person.user).await?;
        if choice.connected == Some(true) && !before.connected {
            return Err(Error::invalid("connected", "SIGN_IN_NEEDED", "sign in to make the link again"));
        }
        let mut link = before.clone();
        link.auto_post = choice.auto_post.unwrap_or(link.auto_post);
        let is_cut = choice.connected == Some(false) && before.connected;
        if is_cut {
            link.connected = false;
            link.disconnected_at = Some(now);
        }
        if link != before {
            save(&tx, &user, &link, now).await?;
        }
        if is_cut {
            audit::note(&*tx, Deed::new(actor.name(), AuditAction::Disconnected, &user), now).await?;
        }
        Ok(link)
    });
    let link = chosen.await?;
    if !link.connected {
        // Also when it was cut before: the tokens may not have been given back then.
        tokens::forget(app, &link.did).await?;
    }
    Ok(link)
}

/// Cuts the link of the person who asks: the account stays with all that it has, records that come later of its DID are
/// still its own, and nothing is written to the network any more. Said again, it changes nothing.
///
/// Errors: as [`choose`].
pub async fn disconnect(app: &App, actor: &Actor) -> Result<Bluesky> {
    choose(app, actor, Choice { connected: Some(false), ..Choice::default() }).await
}

/// Notes the picture of an account in the link of every member who is linked to it.
pub async fn note_picture(app: &App, did: &str, picture: Option<&str>) -> Result<()> {
    let shows_another = |user: &user::Model| {
        let link = user.preferences_bluesky.as_ref().filter(|link| link.did == did);
        link.is_some_and(|link| link.avatar.as_deref() != picture)
    };
    for tenant in Tenant::all(app.db.read()).await? {
        if !member::holder(app.db.read(), tenant, did).await?.is_some_and(|user| shows_another(&user)) {
            continue;
        }
        let noted = app.db.transact(|tx| async move {
            let Some(user) = member::hold(&*tx, tenant, did).await?.filter(shows_another) else { return Ok(()) };
            let Some(mut link) = user.preferences_bluesky.clone() else { return Ok(()) };
            link.avatar = picture.map(str::to_owned);
            save(&tx, &user, &link, app.clock.now()).await
        });
        noted.await?;
    }
    Ok(())
}

async fn held(tx: &DatabaseTransaction, app: &App, user_id: i64) -> Result<(user::Model, Bluesky)> {
    let missing = || Error::NotFound { what: "member", key: user_id.to_string() };
    let user = hold(tx, app.tenant, user_id).await?.ok_or_else(missing)?;
    let none = || Error::invalid("blueskyLink", "NOT_LINKED", "this account is not linked to the network");
    let link = user.preferences_bluesky.clone().ok_or_else(none)?;
    Ok((user, link))
}

async fn save(tx: &DatabaseTransaction, user: &user::Model, link: &Bluesky, now: DateTime<Utc>) -> Result<()> {
    let changes = user::ActiveModel {
        id: Set(user.id),
        preferences_bluesky: Set(Some(link.clone())),
        updated_at: Set(now),
        ..Default::default()
    };
    changes.update(tx).await?;
    Ok(())
}
